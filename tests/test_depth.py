"""Pictures of more than 8 bits, of any number of bands: one range, and the depth that came in."""

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from helpers import SPEC, Negative, script, tiny
from PIL import Image

from cyclegan_ms.config import Config, DataConfig, ModelConfig
from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.data.images import FolderRange, read_image, view_of
from cyclegan_ms.data.ranges import BYTES, Range, usual_range
from cyclegan_ms.data.splits import load_domains, load_sample_tests
from cyclegan_ms.data.stream import UnpairedStream
from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate.metrics import Translation, image_metrics
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.training.cyclegan import generator_spec
from cyclegan_ms.translate import Translator
from cyclegan_ms.translate.depth import depth_for
from cyclegan_ms.translate.folder import translate_files
from cyclegan_ms.translate.plan import Options, plan
from cyclegan_ms.weights.engines import MindSporeEngine

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
HOUNSFIELD = np.linspace(-1024, 3071, 64 * 64, dtype=np.float32).reshape(64, 64)


class Same:
    """Stands in for an engine: changes nothing."""

    def __init__(self, bands=1, **facts):
        self.spec = replace(SPEC, in_channels=bands, out_channels=bands, **facts)

    def __call__(self, pixels):
        return pixels


def run(source, output, translator, **options):
    options = Options(**options)
    return translate_files(translator, plan(source, output, options), options)


def save_all(folder, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        tifffile.imwrite(folder / f"{name}.tif", values)
    return folder


# ------------------------------------------------------------------ ranges


def test_a_range_and_its_inverse():
    hounsfield = Range(-1024, 3071)
    values = np.array([-1024, 1023.5, 3071])
    assert hounsfield.to_unit(values).tolist() == [-1, 0, 1]
    assert hounsfield.from_unit(np.array([-1, 0, 1]), np.int16).tolist() == [-1024, 1024, 3071]
    assert hounsfield.from_unit(np.array([-1, 0, 1]), np.float32).tolist() == values.tolist()
    # What a generator makes never leaves the range, nor the type.
    assert hounsfield.from_unit(np.array([-3.0, 3.0]), np.int16).tolist() == [-1024, 3071]
    assert hounsfield.from_unit(np.array([-1.0, 1.0]), np.uint8).tolist() == [0, 255]
    assert str(hounsfield) == "[-1024, 3071]"
    for low, high in ((1, 1), (2, 1), (0, np.inf), (np.nan, 1)):
        with pytest.raises(ValueError, match="is no range"):
            Range(low, high)


def test_what_is_no_number_and_what_lies_beyond(caplog):
    narrow = Range(0, 1234.5)
    odd = np.array([np.nan, -np.inf, np.inf, -5, 2000])
    assert narrow.to_unit(odd).tolist() == [-1, -1, 1, -1, 1]
    narrow.to_unit(odd)
    assert caplog.messages == ["some values lie beyond [0, 1234.5] and are clipped to it"]


@pytest.mark.parametrize(
    "lowest,highest,whole,expected",
    [
        (0, 1, True, (0, 1)),
        (3, 200, True, (0, 255)),
        (0, 256, True, (0, 1023)),
        (0, 4095, True, (0, 4095)),
        (0, 4096, True, (0, 16383)),
        (0, 65535, True, (0, 65535)),
        (0, 70000, True, (0, 70000)),
        (0.2, 0.9, False, (0, 1)),
        (0, 200.5, False, (0, 255)),
        (0, 800.5, False, (0, 800.5)),
        (-1024, 3071, True, (-1024, 3071)),
        (-0.5, 0.25, False, (-0.5, 0.5)),
        (-7, -7, True, (-7, -6)),
        (-1e38, -1e38, False, (-1e38, -1e38 * (1 - 1e-6))),  # so large that 1 more is the same
    ],
)
def test_usual_ranges(lowest, highest, whole, expected):
    found = usual_range(lowest, highest, whole)
    assert (found.low, found.high) == expected


def test_a_folder_has_one_range(tmp_path, caplog):
    caplog.set_level(logging.INFO, "cyclegan_ms")
    dark, light = np.full((4, 4), 0.5, np.float32), np.full((4, 4), 200, np.float32)
    domain = FolderDomain(save_all(tmp_path / "floats", dark=dark, light=light), channels=1)
    assert domain.range == BYTES
    assert [float(domain.load(i)[0, 0, 0]) for i in range(2)] == pytest.approx(
        [0.5 / 127.5 - 1, 200 / 127.5 - 1]
    )
    assert "floats: [0, 255] is black to white in deep pictures (looked at 2 of float32)" in (
        caplog.text
    )
    scans = FolderDomain(save_all(tmp_path / "scans", a=RAMP // 2, b=RAMP), channels=1)
    assert scans.range == Range(0, 4095)
    assert float(scans.load(0).max()) == pytest.approx(2 * 2047 / 4095 - 1)
    assert scans.load(1).shape == (1, 64, 64)
    signed = FolderDomain(save_all(tmp_path / "ct", a=HOUNSFIELD.astype(np.int16)), channels=1)
    assert signed.range == Range(-1024, 3071)
    caplog.clear()
    mixed = FolderDomain(save_all(tmp_path / "mixed", a=RAMP, b=light), channels=1)
    assert mixed.range == Range(0, 4095) and "values of several types" in caplog.text
    odd = np.array([[np.nan, np.inf], [-5, 70000]], np.float32)
    assert FolderDomain(save_all(tmp_path / "odd", odd=odd)).range == Range(-5, 70000)
    plain = tmp_path / "plain"
    plain.mkdir()
    Image.new("L", (4, 4), 7).save(plain / "a.png")
    assert FolderDomain(plain).range is None


def test_many_files_are_looked_at_in_part(tmp_path, monkeypatch):
    values = [0.5, 200, 1, 1, 30, 1, 0.25]
    arrays = {f"a{i}": np.full((2, 2), value, np.float32) for i, value in enumerate(values)}
    paths = sorted(save_all(tmp_path / "floats", **arrays).iterdir())
    found = FolderRange()
    found.look(paths, most=3)  # the first, the fourth and the last
    assert found.settle("floats") == Range(0, 1)
    found.look(paths, most=None)
    assert found.settle("floats") == BYTES


def test_tests_have_the_range_of_the_training_images(tmp_path):
    for split, top in (("trainA", 4095), ("trainB", 200), ("testA", 100), ("testB", 100)):
        save_all(tmp_path / split, a=(RAMP[:40, :40] * (top / RAMP[39, 39])).astype(np.uint16))
    config = tiny(tmp_path)
    config = replace(config, model=replace(config.model, channels_a=1, channels_b=1))
    trains = load_domains(config.data, "train", (1, 1))
    assert [it.range for it in trains] == [Range(0, 4095), BYTES]
    tests = load_sample_tests(config, trains)
    assert [it.range for it in tests] == [Range(0, 4095), BYTES]
    assert float(tests[0].load(0).max()) == pytest.approx(200 / 4095 - 1)
    fixed = replace(config.data, value_range=[0.0, 1000.0])
    assert [it.range for it in load_domains(fixed, "train", (1, 1))] == [Range(0, 1000)] * 2
    spec = generator_spec(config, "b2a", 1, [it.range for it in trains])
    assert (spec.in_range, spec.out_range) == ((0, 255), (0, 4095))
    assert GeneratorSpec.from_json(spec.to_json(), "file") == spec
    with pytest.raises(UserError, match=r"in_range '\(1, 1\)' is not \[low, high\]"):
        GeneratorSpec.from_json(replace(spec, in_range=(1, 1)).to_json(), "file")


@pytest.mark.parametrize("ends", [[0.0], [1.0, 0.0], [0.0, float("inf")], [1.0, 2.0, 3.0]])
def test_ranges_that_are_none(ends):
    with pytest.raises(UserError, match=r"data.value_range must be auto or \[low, high\]"):
        Config(data=DataConfig(value_range=ends))


# ------------------------------------------------------------------ reading


def test_deep_pictures_are_read_as_values(tmp_path):
    Image.fromarray(RAMP * 16).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", 1)
    assert pixels.dtype == np.float32 and pixels.shape == (1, 64, 64)
    assert np.allclose(pixels[0], RAMP * 16 / 65535 * 2 - 1, atol=1e-7)
    darker = read_image(tmp_path / "a.png", 3, Range(0, 2**17 - 2))
    assert darker.shape == (3, 64, 64) and darker.max() == pytest.approx(65520 / 65535 - 1)
    colors = np.stack([RAMP, RAMP // 2, RAMP // 4], 2)
    tifffile.imwrite(tmp_path / "rgb.tif", colors, photometric="rgb")
    pixels = read_image(tmp_path / "rgb.tif", 3, Range(0, 4095))
    assert np.allclose(pixels, colors.transpose(2, 0, 1) / 4095 * 2 - 1, atol=1e-6)
    gray = read_image(tmp_path / "rgb.tif", 1, Range(0, 4095))
    assert gray[0, -1, -1] == pytest.approx(0.299 + 0.587 * 2047 / 4095 * 2 - 0.587 + 0.114 * (
        1023 / 4095 * 2 - 1), abs=1e-6)  # fmt: skip


@pytest.mark.parametrize("kind", ["tiled", "planar", "float", "signed", "double", "npy", "packed"])
def test_files_of_every_kind(tmp_path, rng, kind):
    values = rng.integers(0, 1000, (48, 40, 5)).astype(np.uint16)
    path = tmp_path / ("a.npy" if kind == "npy" else "a.tif")
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    if kind == "npy":
        np.save(path, values)
    elif kind == "tiled":
        tifffile.imwrite(path, values, tile=(16, 16), **options)
    elif kind == "packed":
        tifffile.imwrite(path, values, compression="zlib", predictor=True, **options)
    elif kind == "planar":
        options["planarconfig"] = "separate"
        tifffile.imwrite(path, values.transpose(2, 0, 1), **options)
    else:
        types = {"float": np.float32, "signed": np.int32, "double": np.float64}
        tifffile.imwrite(path, values.astype(types[kind]), **options)
    pixels = read_image(path, 5, Range(0, 999))
    assert np.allclose(pixels, values.transpose(2, 0, 1) / 999 * 2 - 1, atol=1e-6)
    with pytest.raises(OSError, match=r"^has 5 bands, not 3$"):
        read_image(path, 3, Range(0, 999))
    assert view_of(pixels).mode == "RGB"


def test_files_that_are_no_pictures(tmp_path):
    for name, array in {"1d": np.zeros(5), "4d": np.zeros((2, 3, 4, 5)), "none": np.zeros((0, 4)),
                        "complex": np.zeros((4, 4), complex)}.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(OSError, match=r"an array|real numbers"):
            read_image(tmp_path / f"{name}.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("nothing of the kind")
    for name in ("pickled", "text"):
        with pytest.raises(OSError, match="no array of NumPy, or damaged"):
            read_image(tmp_path / f"{name}.npy")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((8, 8), np.complex64))
    with pytest.raises(OSError, match="not real numbers"):
        read_image(tmp_path / "c.tif")


def test_colours_of_sixteen_bits_with_a_fourth_band(tmp_path):
    """Transparency keeps 8 bits, for a generator of three bands; one of four takes all of it."""
    values = np.stack([RAMP * 16] * 3 + [np.full_like(RAMP, 65535)], 2)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert read_image(tmp_path / "a.tif").mode == "RGB"
    four = read_image(tmp_path / "a.tif", 4, Range(0, 65535))
    assert four.shape == (4, 64, 64) and len(np.unique(four[0])) == 4096
    domain = FolderDomain(tmp_path, channels=4)
    assert domain.range == Range(0, 65535) and domain.load(0).shape == (4, 64, 64)


def test_two_bands_of_bytes_are_bands(tmp_path):
    Image.merge("LA", [Image.new("L", (6, 5), v) for v in (0, 255)]).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 2)[:, 0, 0].tolist() == [-1, 1]
    Image.new("RGB", (6, 5)).save(tmp_path / "b.png")
    with pytest.raises(OSError, match="has 3 bands, not 2"):
        read_image(tmp_path / "b.png", 2)


# ------------------------------------------------------------------ training


def test_a_stream_of_deep_pictures_is_that_of_the_same_bytes(tmp_path, rng):
    """Resizing, crop and mirror fall alike: 8 bits and the same values in 16 differ by rounding."""
    for split in ("trainA", "trainB"):
        for root in ("eight", "sixteen"):
            (tmp_path / root / split).mkdir(parents=True)
        noise = Image.fromarray(rng.integers(0, 256, (6, 7), dtype=np.uint8)).resize((60, 50))
        noise.save(tmp_path / "eight" / split / "a.png")
        deep = np.asarray(noise).astype(np.uint16) * 257
        Image.fromarray(deep).save(tmp_path / "sixteen" / split / "a.png")
    for preprocess in ("resize_and_crop", "scale_and_crop", "crop"):
        config = DataConfig(load_size=40, crop_size=32, preprocess=preprocess)
        pairs = [
            UnpairedStream(
                *load_domains(replace(config, root=str(tmp_path / root)), "train", (1, 1)), config
            )[0]
            for root in ("eight", "sixteen")
        ]
        for eight, sixteen in zip(*pairs):
            assert sixteen.shape == (1, 32, 32) and sixteen.dtype == np.float32
            assert (
                np.abs(eight - sixteen).max() < 2.1 / 255
            )  # a level: both passes of resizing round


def test_metrics_see_what_bytes_do_not():
    real = np.linspace(-1, 1, 4096, dtype=np.float32).reshape(1, 64, 64)
    off = image_metrics(Translation(real, real, real + np.float32(1e-4)))
    assert off["psnr"] == pytest.approx(20 * np.log10(2 / 1e-4), abs=0.05)
    assert off["cycle_l1"] == pytest.approx(1e-4, rel=1e-2)
    assert image_metrics(Translation(real, real, real))["psnr"] == 100


def test_training_and_translating_five_bands(tmp_path, rng):
    """From TIFF files of 12 bits to the generator's file, and from that to values again."""
    root = tmp_path / "data"
    for split in ("trainA", "trainB", "testA", "testB"):
        values = rng.integers(0, 4000, (40, 40, 5)).astype(np.uint16)
        values[0, 0] = 4095
        (root / split).mkdir(parents=True)
        tifffile.imwrite(root / split / "a.tif", values, photometric="minisblack",
                         planarconfig="contig")  # fmt: skip
    size = ["--data.load_size", 36, "--data.crop_size", 32, "--model.width", 4, "--model.blocks", 1]
    done = script(
        "train", "--output", tmp_path / "run", "--data.root", root, *size, "--model.channels_a", 5,
        "--model.channels_b", 5, "--train.epochs", 1, "--train.evaluate_every", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("[0, 4095] is black to white in deep pictures") == 2
    assert (tmp_path / "run" / "samples" / "epoch_0001.png").is_file()
    done = script(
        "infer", "--checkpoint", tmp_path / "run", "--direction", "a2b", "--input",
        root / "testA", "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = tifffile.imread(tmp_path / "out" / "a.tif")
    assert result.dtype == np.uint16 and result.shape == (40, 40, 5)
    assert 255 < result.max() <= 4095
    done = script(
        "evaluate", "--checkpoint", tmp_path / "run" / "best", "--output", tmp_path / "r.json"
    )
    assert done.returncode == 2 and "at least 2 training images" in done.stderr


# ------------------------------------------------------------------ translation


@pytest.mark.parametrize("ending", ["png", "tif", "npy"])
def test_a_ramp_of_twelve_bits_keeps_its_levels(tmp_path, ending):
    """Through reading, a generator that changes nothing, and writing: 4,096 of 4,096."""
    path = tmp_path / f"ramp.{ending}"
    if ending == "npy":
        np.save(path, RAMP)
    else:
        Image.fromarray(RAMP).save(path)
    result = run(path, tmp_path / "out", Translator(Same(in_range=(0, 4095), out_range=(0, 4095))))
    assert not result.notes and not result.failed
    read = np.load if ending == "npy" else lambda file: np.asarray(Image.open(file))
    values = read(tmp_path / "out" / f"ramp.{ending}")
    assert values.dtype == np.uint16 and np.array_equal(values, RAMP)
    assert len(np.unique(values)) == 4096


@pytest.mark.parametrize(
    "values",
    [
        HOUNSFIELD,
        HOUNSFIELD.astype(np.int16),
        HOUNSFIELD.astype(np.int32),
        HOUNSFIELD.astype(np.float64) / 4095,
        np.arange(65536, dtype=np.uint16).reshape(256, 256),
    ],
)
def test_what_comes_out_is_in_the_range_that_came_in(tmp_path, values, caplog):
    caplog.set_level(logging.INFO, "cyclegan_ms")
    tifffile.imwrite(tmp_path / "a.tif", values)
    result = run(tmp_path / "a.tif", tmp_path / "out", Translator(Same()))
    assert not result.notes and "is black to white in deep pictures" in caplog.text
    found = tifffile.imread(tmp_path / "out" / "a.tif")
    if values.dtype.kind == "f":
        assert found.dtype == np.float32
        assert np.allclose(found, values, atol=np.ptp(values) * 1e-6)
    else:
        assert found.dtype == values.dtype and np.array_equal(found, values)


def test_results_have_the_range_of_their_domain(tmp_path):
    """From 12 bits without a sign to Hounsfield units: other values, in a type that holds them."""
    Image.fromarray(RAMP).save(tmp_path / "a.tif")
    engine = Same(in_range=(0, 4095), out_range=(-1024, 3071))
    run(tmp_path / "a.tif", tmp_path / "out", Translator(engine))
    found = tifffile.imread(tmp_path / "out" / "a.tif")
    assert found.dtype == np.int16 and np.array_equal(found, RAMP.astype(np.int16) - 1024)
    asked = Translator(engine, value_range=Range(0, 8191))
    assert asked.source == asked.target == Range(0, 8191)
    assert depth_for(np.uint16, Range(-1, 70000)).dtype == np.int32
    assert depth_for(np.uint8, Range(0, 2.0**40)).dtype == np.float32


def test_less_where_it_is_asked_for(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.tif")
    translator = Translator(Same(in_range=(0, 4095), out_range=(0, 4095)))
    done = run(tmp_path / "a.tif", tmp_path / "eight", translator, bits=8)
    assert not done.notes
    eight = np.asarray(Image.open(tmp_path / "eight" / "a.tif"))
    assert eight.dtype == np.uint8 and np.array_equal(eight, np.round(RAMP / 4095 * 255))
    done = run(tmp_path / "a.tif", tmp_path / "jpg", translator, format="jpg")
    assert [note for _, note in done.notes] == [
        "reduced to 8 bits, as a jpg file; --format tif keeps more"
    ]
    Image.fromarray(HOUNSFIELD).save(tmp_path / "ct.tif")
    done = run(tmp_path / "ct.tif", tmp_path / "png", Translator(Same()), format="png")
    assert [note for _, note in done.notes] == [
        "stored as 16 bits, [-1024, 3071] as 0 to 65535; --format tif keeps its values"
    ]
    sixteen = np.asarray(Image.open(tmp_path / "png" / "ct.png"))
    assert sixteen.dtype == np.uint16 and (sixteen[0, 0], sixteen[-1, -1]) == (0, 65535)


def test_bands_and_endings(tmp_path, rng, monkeypatch):
    values = rng.integers(0, 255, (20, 24, 5), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    run(tmp_path / "a.npy", tmp_path / "out", Translator(Same(5)))
    assert np.array_equal(np.load(tmp_path / "out" / "a.npy"), values)
    with pytest.raises(UserError, match="--format png has no place for 5 bands; tif has"):
        run(tmp_path / "a.npy", tmp_path / "png", Translator(Same(5)), format="png")
    Image.merge("RGBA", [Image.new("L", (9, 7), v) for v in (0, 90, 180, 255)]).save(
        tmp_path / "four.png"
    )
    done = run(tmp_path / "four.png", tmp_path / "four", Translator(Same(4)))
    assert [why for _, why in done.failed] == ["4 bands cannot be written as png; --format tif can"]
    run(tmp_path / "a.npy", tmp_path / "tif", Translator(Same(5)), format="tif")
    assert np.array_equal(tifffile.imread(tmp_path / "tif" / "a.tif"), values)
    done = run(tmp_path / "a.npy", tmp_path / "gray", Translator(Same()))
    assert [why for _, why in done.failed] == ["has 5 bands, not 1"]
    colors = RAMP[..., None].repeat(3, 2) * 16
    tifffile.imwrite(tmp_path / "rgb.tif", colors, photometric="rgb")
    run(tmp_path / "rgb.tif", tmp_path / "deep", Translator(Same(3)))
    assert np.array_equal(tifffile.imread(tmp_path / "deep" / "rgb.tif"), colors)
    monkeypatch.setattr("cyclegan_ms.translate.depth.find_spec", lambda name: None)
    done = run(tmp_path / "rgb.tif", tmp_path / "less", Translator(Same(3)))
    assert [note for _, note in done.notes] == [
        "reduced to 8 bits; pip install tifffile keeps them"
    ]
    done = run(tmp_path / "a.npy", tmp_path / "none", Translator(Same(5)), format="tif")
    assert [why for _, why in done.failed] == [
        "5 bands are written with tifffile: pip install tifffile"
    ]


def test_originals_stand_beside_deep_results(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")

    class ToNegative(Same):
        def __call__(self, pixels):
            return -pixels

    run(tmp_path / "a.png", tmp_path / "out", Translator(ToNegative(in_range=(0, 4095))),
        side_by_side=True)  # fmt: skip
    both = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert np.array_equal(both, np.concatenate([RAMP, 4095 - RAMP], 1))


@pytest.mark.parametrize("bands", [1, 3])
def test_what_belongs_to_a_deep_picture_is_kept(tmp_path, bands):
    values = RAMP if bands == 1 else RAMP[..., None].repeat(3, 2)
    scale, ties = (0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0)
    keys = (1, 1, 0, 1, 1024, 0, 1, 1)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="rgb" if bands == 3 else "minisblack",
        compression="zlib", resolution=(300, 200), resolutionunit="INCH", description="a field",
        metadata=None, software="a scanner",
        extratags=[(33550, 12, 3, scale, True), (33922, 12, 6, ties, True),
                   (34735, 3, 8, keys, True), (700, 1, 7, b"<x:xmp>", True)],
    )  # fmt: skip
    done = run(tmp_path / "a.tif", tmp_path / "out", Translator(Same(bands)))
    assert not done.notes
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as file:
        tags = {tag.code: tag.value for tag in file.pages.first.tags.values()}
        assert file.pages.first.compression.name in ("ADOBE_DEFLATE", "DEFLATE")
        assert np.array_equal(file.asarray(), values)
    assert (tags[33550], tags[33922], tags[34735]) == (scale, ties, keys)
    assert bytes(tags[700]) == b"<x:xmp>" and tags[270] == "a field" and tags[305] == "a scanner"
    assert [tags[282][0] / tags[282][1], tags[283][0] / tags[283][1]] == [300, 200]


def test_arrays_and_images_of_any_depth():
    translator = Translator(Same())
    assert np.array_equal(translator(RAMP), RAMP) and translator(RAMP).dtype == np.uint16
    unit = HOUNSFIELD / 8190 + 0.25
    assert np.allclose(translator(unit), unit, atol=1e-6)
    batch = np.stack([RAMP, RAMP[::-1]])[..., None]
    assert np.array_equal(translator(batch), batch)
    image = translator(Image.fromarray(RAMP))
    assert image.mode.startswith("I;16") and np.array_equal(np.asarray(image), RAMP)
    colours = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    colourful = Translator(MindSporeEngine(colours.build(), colours))
    image = colourful(Image.fromarray(RAMP))  # Pillow has no colours of 16 bits
    assert image.mode == "RGB" and image.size == (64, 64)
    many = np.arange(20 * 24 * 7, dtype=np.uint16).reshape(20, 24, 7)
    with pytest.raises(ValueError, match="7 bands are no image"):
        Translator(Same(7))(Image.fromarray(RAMP))
    assert np.array_equal(Translator(Same(7))(many), many)
    signed = Translator(Same(in_range=(-1024, 3071)))
    assert np.allclose(signed(HOUNSFIELD), HOUNSFIELD, atol=1e-2)
    with pytest.raises(ValueError, match=r"C one of \[1, 3, 4\], not \(20, 24, 7\)"):
        Translator(Negative())(many.astype(np.uint8))


def test_without_tifffile_sixteen_bits_of_colour_become_eight(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "rgb.tif", RAMP[..., None].repeat(3, 2) * 16, photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert read_image(tmp_path / "rgb.tif").mode == "RGB"
    monkeypatch.undo()
    assert read_image(tmp_path / "rgb.tif").shape == (3, 64, 64)


def test_the_tutorials_networks_take_any_bands_too():
    for variant in ("paper", "tutorial"):
        spec = GeneratorSpec.of(
            vars(ModelConfig(variant=variant, width=4, blocks=1, channels_a=2, channels_b=5)),
            "a2b", ("a", "b"),
        )  # fmt: skip
        assert (spec.in_channels, spec.out_channels) == (2, 5)
