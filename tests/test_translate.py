"""A generator on images of any size and kind."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from helpers import SPEC, Negative
from PIL import Image

import mindspore as ms

from cyclegan_ms.errors import UserError
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.translate import Translator
from cyclegan_ms.translate.pictures import save_picture
from cyclegan_ms.weights.checkpoint import load_generator, read_generator, save_generator
from cyclegan_ms.weights.engines import MindSporeEngine

pytestmark = pytest.mark.usefixtures("pynative")


@pytest.fixture
def run(tmp_path):
    """A run folder with both generators."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name, direction in (("g_ab", "a2b"), ("g_ba", "b2a")):
        spec = GeneratorSpec(direction, ("apple", "orange"), width=4, blocks=1, image_size=32)
        save_generator(spec.build(), spec, folder / f"{name}.ckpt")
    return folder


def test_a_file_describes_itself(tmp_path, images):
    generator = SPEC.build()
    save_generator(generator, SPEC, tmp_path / "g.ckpt")
    loaded, spec = load_generator(tmp_path / "g.ckpt")
    assert spec == SPEC
    assert spec.name == "apple2orange"
    x = ms.Tensor(images())
    assert np.array_equal(loaded(x).asnumpy(), generator(x).asnumpy())
    assert [p.name for p in tmp_path.iterdir()] == ["g.ckpt"]
    (tmp_path / "other").touch()
    assert (tmp_path / "g.ckpt").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_files_that_are_no_generators(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_generator(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(UserError, match=r"text.ckpt: not a MindSpore checkpoint, or damaged"):
        read_generator(tmp_path / "text.ckpt")
    ms.save_checkpoint(SPEC.build(), str(tmp_path / "plain.ckpt"))
    with pytest.raises(UserError, match="not a generator saved by cyclegan_ms"):
        read_generator(tmp_path / "plain.ckpt")


def test_directions(run):
    for direction in ("a2b", "apple2orange"):
        assert Translator(run, direction).spec.direction == "a2b"
    for direction in ("b2a", "orange2apple"):
        assert Translator(run, direction).spec.direction == "b2a"
    with pytest.raises(UserError, match="can be a2b, apple2orange, b2a, orange2apple"):
        Translator(run, "cat2dog")
    with pytest.raises(UserError, match="can be b2a, orange2apple"):
        Translator(run / "g_ba.ckpt", "a2b")
    with pytest.raises(UserError, match=r"it has no g_ab.ckpt; a training writes it after its"):
        Translator(run.parent, "a2b")
    (run / "samples").mkdir()
    with pytest.raises(UserError, match=rf"it has no g_ab.ckpt; give {run}$"):
        Translator(run / "samples", "a2b")


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (32, 32), (33, 47), (5, 200)])
def test_any_size_in_the_same_size_out(size, rng):
    translator = Translator(Negative())
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    result = translator(Image.fromarray(pixels))
    assert np.array_equal(np.asarray(result), 255 - pixels)


def test_arrays(rng):
    translator = Translator(Negative())
    gray = rng.integers(0, 256, (9, 13), dtype=np.uint8)
    as_color = np.repeat(255 - gray[..., None], 3, axis=2)
    assert np.array_equal(translator(gray), as_color)
    assert np.array_equal(translator(gray[..., None]), as_color)
    rgb = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    assert np.array_equal(translator(rgb), 255 - rgb)
    batch = rng.integers(0, 256, (4, 9, 13, 3), dtype=np.uint8)
    assert np.array_equal(translator(batch), 255 - batch)
    rgba = rng.integers(1, 256, (2, 9, 13, 4), dtype=np.uint8)
    result = translator(rgba)
    assert np.array_equal(result[..., :3], 255 - rgba[..., :3])
    assert np.array_equal(result[..., 3], rgba[..., 3])


def test_a_gray_domain(rng):
    class Gray(Negative):
        spec = GeneratorSpec("a2b", ("apple", "orange"), in_channels=1, out_channels=1)

    batch = rng.integers(0, 256, (2, 9, 13, 1), dtype=np.uint8)
    assert np.array_equal(Translator(Gray())(batch), 255 - batch)
    assert np.array_equal(Translator(Gray())(batch[0]), 255 - batch[0, ..., 0])
    assert Translator(Gray())(Image.new("RGB", (9, 7), "red")).mode == "L"


def test_arrays_that_are_no_images():
    translator = Translator(Negative())
    with pytest.raises(ValueError, match="must be numbers, not complex64"):
        translator(np.zeros((8, 8, 3), np.complex64))
    with pytest.raises(ValueError, match="has N in front"):
        translator(np.zeros((8, 8, 5), np.uint8))
    with pytest.raises(ValueError, match="no images"):
        translator(np.zeros((0, 8, 8, 3), np.uint8))


def test_transparency_is_kept_and_what_it_hides_is_white():
    seen = []

    class Spy(Negative):
        def __call__(self, pixels):
            seen.append(pixels)
            return super().__call__(pixels)

    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (200, 100, 0, 0)
    pixels[:, 4:] = (200, 100, 0, 60)
    result = np.asarray(Translator(Spy())(Image.fromarray(pixels)))
    assert (result[..., 3] == pixels[..., 3]).all()
    assert (result[:, 4:, :3] == [55, 155, 255]).all()
    assert (seen[0][0, :, :, :4] == 1).all()


def test_working_at_another_size(rng):
    shapes = []

    class Spy(Negative):
        def __call__(self, pixels):
            shapes.append(pixels.shape)
            return super().__call__(pixels)

    image = Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    image = image.resize((300, 200), Image.Resampling.BICUBIC)
    result = Translator(Spy(), size=40)(image)
    assert shapes == [(1, 3, 40, 60)] and result.size == (300, 200)
    difference = np.asarray(result, int) - (255 - np.asarray(image, int))
    assert np.abs(difference).mean() < 40
    with pytest.raises(UserError, match="size must be at least 8"):
        Translator(Negative(), size=7)


@pytest.mark.parametrize("name", ["a.jpg", Path("a.jpg")])
def test_a_name_is_no_picture(name):
    with pytest.raises(ValueError, match=r"not its name: Image\.open\('a\.jpg'\)"):
        Translator(Negative())(name)


def test_tiles_where_they_are_asked_for_or_memory_is_short(monkeypatch, rng):
    class Spy(Negative):
        asked = 0

        def to_mindspore(self):
            self.asked += 1
            return SPEC.build()

    image = Image.fromarray(rng.integers(0, 256, (32, 600, 3), dtype=np.uint8))
    for options, free, tiled in (
        ({}, 1e12, 0),
        ({}, 1.5e6, 1),
        ({"tile": 700}, 1.5e6, 0),
        ({"tile": 300}, 1e12, 1),
    ):
        memory = SimpleNamespace(available=free)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        spy = Spy()
        assert Translator(spy, **options)(image).size == (600, 32)
        assert spy.asked == tiled, options


def test_batches_are_the_images_one_by_one(run, rng):
    translator = Translator(run, "a2b")
    batch = rng.integers(0, 256, (3, 40, 44, 3), dtype=np.uint8)
    together = translator(batch).astype(int)
    assert np.abs(together - np.stack([translator(image) for image in batch])).max() <= 1


def test_a_photograph_of_six_megapixels_comes_back(caplog):
    """Above 5.4 megapixels a CPU computes in tiles, by itself, and says so and how far it is."""
    caplog.set_level("INFO", "cyclegan_ms")
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    translator = Translator(MindSporeEngine(spec.build().set_train(False), spec))
    height, width = 2000, 3000
    pixels = np.zeros((1, 3, height, width), np.float32)
    pixels[..., : width // 2] = 0.5
    shares = []
    output = translator.pixels(pixels, shares.append)
    assert output.shape == pixels.shape and np.isfinite(output).all()
    assert "images as large as 3000x2000 pixels are computed in tiles" in caplog.text
    assert shares == sorted(shares) and shares[0] == 0 < shares[2] and shares[-1] == 1


def test_above_the_bound_tiles_are_the_whole(monkeypatch, images):
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    translator = Translator(MindSporeEngine(spec.build().set_train(False), spec))
    pixels = images(1, 3, 640)
    whole = translator.pixels(pixels)
    monkeypatch.setattr("cyclegan_ms.translate.translator.LARGEST_ON_CPU", 640 * 640 - 1)
    shares = []
    tiled = translator.pixels(pixels, shares.append)
    assert shares and np.abs(tiled - whole).max() < 1e-4


def test_tiles_have_a_largest_side():
    with pytest.raises(UserError, match="tile must be at most 2048, not 4096"):
        Translator(Negative(), tile=4096)


def test_a_size_far_from_the_training_is_said_once(caplog):
    caplog.set_level("INFO", "cyclegan_ms")
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1, image_size=64)
    engine = MindSporeEngine(spec.build().set_train(False), spec)
    picture = Image.new("RGB", (300, 160))
    soft = "so it is soft: --size"
    for size, factor, said in (
        (64, 1, []),
        (0, 1, ["translated at 300x160, trained at 64 pixels: --size 64 may look better"]),
        (32, 1, [f"computed at 60x32 and enlarged 5 times, {soft} 64 is sharper"]),
        (16, 1, [f"computed at 30x16 and enlarged 10 times, {soft} 64 is sharper"]),
        (64, 2, [f"computed at 120x64 and enlarged 5 times, {soft} 128 is sharper, if less like "
                 "its training at 64"]),
    ):  # fmt: skip
        caplog.clear()
        translator = Translator(engine, size=size)
        for _ in range(2):
            translator(picture.resize((300 * factor, 160 * factor)))
        assert caplog.messages == said


def test_jpeg_keeps_its_colours_at_high_quality(tmp_path):
    """Red and blue columns of one pixel, which a colour map of half the width would mix."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2, 0], pixels[:, 1::2, 2] = 255, 255
    for quality, most in ((100, 8), (75, 255)):
        save_picture(tmp_path / f"{quality}.jpg", Image.fromarray(pixels), None, quality)
        back = np.asarray(Image.open(tmp_path / f"{quality}.jpg")).astype(int)
        assert np.abs(back - pixels).max() <= most
    assert Image.open(tmp_path / "100.jpg").layer[0][1:3] == (1, 1)
    assert Image.open(tmp_path / "75.jpg").layer[0][1:3] == (2, 2)


def test_only_the_generator_that_is_used_is_built(run, monkeypatch):
    built = []
    build = GeneratorSpec.build
    monkeypatch.setattr(GeneratorSpec, "build", lambda s: built.append(s.direction) or build(s))
    assert Translator(run, "b2a").spec.direction == "b2a"
    assert built == ["b2a"]
