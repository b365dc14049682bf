"""Reading odd files, pairing, augmentation, workers, MindRecord."""

import json
import logging
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tifffile
from helpers import ROOT
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data import domains, images
from cyclegan_ms.data.broken import load_readable
from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.data.formats import find_images, known_endings, open_image
from cyclegan_ms.data.images import from_chw, read_image, to_chw
from cyclegan_ms.data.prepare import write_mindrecord
from cyclegan_ms.data.splits import load_domains, load_sample_tests
from cyclegan_ms.data.squares import sample_images
from cyclegan_ms.data.stream import UnpairedStream, augment, create_dataset, epoch_steps, iterate
from cyclegan_ms.errors import UserError
from cyclegan_ms.training.resume import fingerprint
from cyclegan_ms.translate.pictures import open_picture
from cyclegan_ms.translate.plan import Options, plan

pytestmark = pytest.mark.quick

SMALL = DataConfig(load_size=36, crop_size=32)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def pixel(image, x=0, y=0):
    return image.getpixel((x, y))


def test_range_and_inverse(rng):
    image = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    pixels = to_chw(image)
    assert pixels.shape == (3, 5, 7) and pixels.dtype == np.float32
    assert to_chw(Image.new("RGB", (1, 1), (0, 255, 51)))[:, 0, 0].tolist() == pytest.approx(
        [-1, 1, -0.6]
    )
    assert np.array_equal(np.asarray(from_chw(pixels)), np.asarray(image))
    gray = image.convert("L")
    assert np.array_equal(np.asarray(from_chw(to_chw(gray))), np.asarray(gray))


def test_gray_becomes_rgb(tmp_path):
    path = saved(tmp_path / "g.png", Image.new("L", (4, 4), 77))
    assert pixel(read_image(path)) == (77, 77, 77)
    assert read_image(path, channels=1).mode == "L"


def test_palette_with_transparency_is_laid_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "p.png", image, transparency=0)
    assert [pixel(read_image(path), x) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]


def test_alpha_is_laid_on_white(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGBA", (2, 2), (0, 0, 0, 51)))
    assert pixel(read_image(path)) == (204, 204, 204)


def test_cmyk_keeps_its_colors(tmp_path):
    path = saved(tmp_path / "c.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0)))
    red, green, blue = pixel(read_image(path))
    assert red > 200 and green < 60 and blue < 60


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is at the right: turn by 90 degrees clockwise
    turned = read_image(saved(tmp_path / "e.jpg", image, exif=exif, quality=95))
    assert turned.size == (10, 20)
    assert pixel(turned, 5, 3)[0] > 240 and pixel(turned, 5, 17)[0] < 15


def photograph(rng, width, height):
    """Smooth colours, hard edges and noise, as a camera makes them."""
    colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels = pixels + rng.normal(0, 4, (height, width, 1))
    pixels[height // 4 : height // 2, width // 4 : width // 2] *= 0.4
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("channels", [3, 1])
def test_large_jpegs_are_decoded_at_twice_the_size_or_more(tmp_path, rng, mode, turned, channels):
    exif = Image.Exif()
    exif[0x0112] = turned
    path = saved(tmp_path / "p.jpg", photograph(rng, 1216, 912).convert(mode), exif=exif)
    full = read_image(path, channels)
    for side, size in ((36, (152, 114)), (100, (304, 228)), (228, (608, 456)), (229, (1216, 912))):
        reduced = read_image(path, channels, side=side)
        assert reduced.size == (size if turned == 1 else size[::-1])
        assert reduced.mode == full.mode
        expected, found = (
            np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), float)
            for image in (full, reduced)
        )
        difference = np.abs(found - expected)
        assert difference.mean() < 0.5 and difference.max() <= 8, (side, difference.max())


def test_sides_that_no_power_of_two_divides(tmp_path, rng):
    """The last row stands for less than the others: half a pixel of the square, at most."""
    path = saved(tmp_path / "odd.jpg", photograph(rng, 1201, 897))
    reduced = read_image(path, side=36)
    assert reduced.size == (151, 113)
    full = read_image(path).resize((36, 36), Image.Resampling.BICUBIC)
    found = reduced.resize((36, 36), Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(found, float) - np.asarray(full, float))
    steepest = np.abs(np.diff(np.asarray(full, float), axis=0)).max()
    assert difference.max() < steepest / 2


def test_what_is_no_large_jpeg_is_decoded_as_it_is(tmp_path, rng):
    image = photograph(rng, 400, 300)
    for name in ("a.png", "a.webp", "a.tif"):
        path = saved(tmp_path / name, image)
        assert read_image(path, side=36).tobytes() == read_image(path).tobytes()
    narrow = saved(tmp_path / "narrow.jpg", photograph(rng, 1600, 70))
    assert read_image(narrow, side=36).size == (1600, 70)
    second = photograph(rng, 400, 300)
    several = saved(tmp_path / "several.mpo", image, save_all=True, append_images=[second])
    assert read_image(several, side=36).size == (100, 75)


def test_domains_decode_what_training_and_evaluation_need(data_root, rng):
    for name in ("trainA", "testA"):
        saved(data_root / name / "0.jpg", photograph(rng, 800, 600))
    config = DataConfig(str(data_root), load_size=72, crop_size=32)
    for split in ("train", "test"):
        domain = load_domains(config, split)[0]
        assert domain.where(0).name == "0.jpg" and domain.load(0).size == (200, 150)
    assert FolderDomain(data_root / "trainA").load(0).size == (800, 600)
    assert open_picture(data_root / "trainA" / "0.jpg").image.size == (800, 600)


def test_find_images_is_recursive_sorted_and_picky(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/deep/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(p.relative_to(tmp_path)) for p in find_images(tmp_path)]
    assert found == ["a.jpg", "b.PNG", "sub/deep/c.webp"]


def test_missing_and_empty_folders(tmp_path):
    config = DataConfig(str(tmp_path / "data"))
    with pytest.raises(UserError, match="data does not exist; expected trainA, trainB"):
        load_domains(config, "train")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="trainA: no such folder; expected trainA, trainB"):
        load_domains(config, "train")
    (tmp_path / "data" / "trainA").mkdir()
    with pytest.raises(UserError, match="trainA: holds no image"):
        load_domains(config, "train")


def test_unreadable_files_are_skipped_with_one_warning_each(data_root, caplog):
    folder = data_root / "trainA"
    (folder / "00_text.jpg").write_text("this is no image")
    whole = (folder / "0.png").read_bytes()
    (folder / "01_cut.png").write_bytes(whole[: len(whole) // 2])
    domain, broken = FolderDomain(folder), {}
    assert len(domain) == 5 and not domain.left_out and not caplog.records
    assert [domain.where(i).name for i in (1, 2)] == ["00_text.jpg", "01_cut.png"]
    for _ in range(3):
        instead = load_readable(domain, 1, broken)
        assert np.array_equal(np.asarray(instead), np.asarray(domain.load(3)))
    assert broken == {1: 0, 2: 0}
    with pytest.raises(OSError, match="truncated"):
        domain.load(2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    text_file, cut_file = (record.getMessage() for record in caplog.records)
    assert text_file == f"skipped {folder / '00_text.jpg'}: not an image, or damaged"
    assert cut_file.startswith(f"skipped {folder / '01_cut.png'}: ")


def test_whatever_pillow_raises_is_an_unreadable_file(tmp_path):
    """A bad EXIF chunk ends in a SyntaxError, a broken PPM header in a ValueError."""
    image = Image.new("RGB", (4, 4))
    image.save(tmp_path / "exif.png", exif=b"Exif\x00\x00nothing of the kind")
    (tmp_path / "header.ppm").write_bytes(b"P6 4 x 255 ")
    for name in ("exif.png", "header.ppm"):
        with pytest.raises(OSError):
            read_image(tmp_path / name)


def test_a_domain_without_a_readable_image_stops_with_its_name(data_root):
    domains = load_domains(DataConfig(str(data_root)), "train")
    for path in domains[1].paths:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="trainB: none of its images can be decoded"):
        list(iterate(UnpairedStream(*domains, SMALL)))


def test_names_that_are_not_utf8(data_root):
    source = data_root / "trainA" / "0.png"
    Path(os.fsdecode(os.fsencode(str(data_root / "trainA")) + b"/Pf\xe4lzer.png")).write_bytes(
        source.read_bytes()
    )
    assert len(fingerprint(*load_domains(DataConfig(str(data_root)), "train"))) == 16


class Moody(FolderDomain):
    """A domain on a disk that fails as often as `faults` says, by image."""

    faults: ClassVar[dict[int, int]] = {}

    def load(self, index):
        if self.faults.get(index):
            self.faults[index] -= 1
            raise OSError(5, "Input/output error")
        return super().load(index)


def test_a_disk_may_stumble_once(data_root, monkeypatch, caplog):
    domain, broken = Moody(data_root / "trainA"), {}
    monkeypatch.setattr(Moody, "faults", {0: 1})
    assert load_readable(domain, 0, broken).tobytes() == domain.load(0).tobytes()
    assert not broken and not caplog.records
    monkeypatch.setattr(Moody, "faults", {0: 2})
    instead = load_readable(domain, 0, broken, number=7)
    assert instead.tobytes() == domain.load(1).tobytes()
    assert broken == {0: 7} and len(caplog.records) == 1
    # Pairs before the seventh had the image, whatever order threads ask in.
    assert load_readable(domain, 0, broken, number=6).tobytes() == domain.load(0).tobytes()

    faults = [OSError(5, "Input/output error")]

    def moody_open(path, *bands):
        if faults:
            raise faults.pop()
        return open_image(path)

    monkeypatch.setattr(domains, "open_image", moody_open)
    assert len(FolderDomain(data_root / "trainA")) == 3 and not faults


def test_a_stream_remembers_what_is_broken(data_root, monkeypatch):
    """A disk that recovers between two processes changes nothing."""
    pair = (Moody(data_root / "trainA"), FolderDomain(data_root / "trainB"))
    monkeypatch.setattr(Moody, "faults", {2: 2})
    straight = UnpairedStream(*pair, SMALL, epochs=3)
    all_pairs = [straight[i] for i in range(len(straight))]
    ((index, found),), _ = straight.state()
    assert index == 2 and 0 <= found < 3

    monkeypatch.setattr(Moody, "faults", {2: 2})
    before = UnpairedStream(*pair, SMALL, epochs=3)
    for i in range(4):
        before[i]
    after = UnpairedStream(*pair, SMALL, epochs=3, start=4)
    after.restore(json.loads(json.dumps(before.state())))
    for got, expected in zip((after[i] for i in range(len(after))), all_pairs[4:]):
        assert all(map(np.array_equal, got, expected))
    forgetful = UnpairedStream(*pair, SMALL, epochs=3, start=4)
    assert not all(
        np.array_equal(forgetful[i][0], all_pairs[4 + i][0]) for i in range(len(forgetful))
    )


def test_a_pipe_does_not_hang(data_root):
    os.mkfifo(data_root / "trainA" / "pipe.png")
    domain = FolderDomain(data_root / "trainA")
    assert [path.name for path in domain.left_out] == ["pipe.png"] and len(domain) == 3


def test_opening_reads_names_and_sizes_only(data_root, monkeypatch, caplog):
    """Neither images nor what pretends to be one; an empty file shows by its size."""
    folder = data_root / "trainB"
    for index in range(300):
        (folder / f"x{index:03d}.jpg").write_text("no image")
        (folder / f"y{index:03d}.png").write_text("no image")
    (folder / "empty.jpg").touch()
    opened = []

    def noting(path, *bands):
        opened.append(path.name)
        return open_image(path)

    for module in (domains, images):
        monkeypatch.setattr(module, "open_image", noting)
    domain = FolderDomain(folder)
    assert len(domain) == 602 and domain.names[-1] == "y299.png 8"
    # One to see that there is an image, and of PNG files some, for they may have 16 bits.
    assert opened[0] == "0.png" and len(opened) == 1 + -(-302 // 2)
    assert all(name.endswith(".png") for name in opened)
    assert [path.name for path in domain.left_out] == ["empty.jpg"]
    assert caplog.messages == [f"skipped {folder / 'empty.jpg'}: an empty file"]
    for path in domain.paths[:2]:
        path.unlink()
    with pytest.raises(UserError, match="trainB: holds no image that can be read"):
        FolderDomain(folder)


@pytest.mark.parametrize(
    "values,words",
    [
        (np.zeros((8, 8, 5), np.uint8), "of 5 bands of 8 bits"),
        (np.zeros((8, 8, 2), np.uint16), "of 2 bands of 16 bits"),
        (np.zeros((8, 8), np.float64), "of 1 floating-point band of 64 bits"),
        (np.zeros((8, 8), np.complex64), "of 1 complex band of 64 bits"),
    ],
)
def test_a_tiff_that_pillow_does_not_read_is_named(tmp_path, monkeypatch, values, words):
    options = {"photometric": "minisblack", "planarconfig": "contig"} if values.ndim == 3 else {}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(OSError, match=f"^a TIFF file {words} .*not read; pip install tifffile"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:12])
    with pytest.raises(OSError, match="a damaged TIFF file"):
        read_image(tmp_path / "b.tif")


def test_raw_files_are_not_mistaken_for_their_previews(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.DNG")
    with pytest.raises(OSError, match="a camera's raw file; develop it"):
        read_image(tmp_path / "a.DNG")


def test_heic_photographs(tmp_path):
    """They are read with pillow-heif; without it, it is named."""
    from pillow_heif import register_heif_opener

    register_heif_opener()
    Image.new("RGB", (64, 48), (200, 40, 40)).save(tmp_path / "a.heic", quality=95)
    assert [path.name for path in find_images(tmp_path)] == ["a.heic"]
    image = read_image(tmp_path / "a.heic")
    assert image.size == (64, 48)
    assert np.abs(np.array(pixel(image, 32, 24)) - (200, 40, 40)).max() <= 4
    code = (
        "import logging, sys; sys.modules['pillow_heif'] = None; sys.path.insert(0, sys.argv[2]);"
        "logging.basicConfig(level=logging.INFO);"
        "from cyclegan_ms.data.formats import *;"
        "print(find_images(sys.argv[1])); open_image(sys.argv[1] + '/a.heic')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, ROOT], capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
    assert "left out 1 file of other types" in done.stderr
    assert "(.heic 1); pip install pillow-heif reads HEIC files" in done.stderr
    assert done.stderr.endswith("OSError: a HEIC picture; pip install pillow-heif reads it\n")


def test_a_mindrecord_file_is_read_once(data_root, tmp_path):
    write_mindrecord(DataConfig(str(data_root), load_size=32, crop_size=32), tmp_path / "m")
    config = Config(data=DataConfig(str(tmp_path / "m"), load_size=32, crop_size=32))
    trains = load_domains(config.data, "train")
    assert load_sample_tests(config, trains) is trains


def test_samples_are_never_the_same_image_twice(data_root):
    """In place of a broken one comes the next that is not shown yet; with none, there are fewer."""
    domain = FolderDomain(data_root / "trainA")
    config = replace(SMALL, load_size=32)
    whole = sample_images(domain, config, 3)
    assert len(whole) == len(domain) == 3
    domain.paths[2].write_text("no image")
    assert np.array_equal(sample_images(domain, config, 3), whole[:2])
    assert np.array_equal(sample_images(domain, config, 2), whole[:2])


def test_nothing_left_to_decode(data_root):
    domain = FolderDomain(data_root / "testA")
    path = domain.paths[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="none of its images can be decoded"):
        load_readable(domain, 0, {})


def test_max_images(data_root):
    a, b = load_domains(DataConfig(str(data_root), max_images=2), "train")
    assert (len(a), len(b)) == (2, 2)


class Numbers:
    """A domain whose image i is the constant i / 100."""

    finished = True

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def load(self, index):
        return np.full((3, 32, 32), index / 100, np.float32)


def numbers(stream):
    return [tuple(round(float(x[0, 0, 0]) * 100) for x in stream[i]) for i in range(len(stream))]


def test_an_epoch_shows_all_of_the_larger_and_wraps_the_smaller():
    stream = UnpairedStream(Numbers(10), Numbers(4), SMALL, seed=1)
    pairs = numbers(stream)
    assert len(pairs) == 10
    assert sorted(a for a, _ in pairs) == list(range(10))
    order = [b for _, b in pairs]
    assert sorted(order[:4]) == [0, 1, 2, 3]
    assert order == (order[:4] * 3)[:10]


def test_domains_are_shuffled_independently_anew_each_epoch():
    stream = UnpairedStream(Numbers(50), Numbers(50), SMALL, seed=1, epochs=2)
    pairs = numbers(stream)
    orders = [[p[side] for p in pairs[50 * e : 50 * e + 50]] for e in (0, 1) for side in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_whole_batches_lose_no_image():
    config = DataConfig(load_size=36, crop_size=32, batch_size=4)
    a, b = Numbers(10), Numbers(7)
    assert epoch_steps(a, b, 4) == 3
    stream = UnpairedStream(a, b, config, seed=1)
    assert len(stream) == 12
    assert {p[0] for p in numbers(stream)} == set(range(10))


def test_stream_continues_where_another_ended(data_root):
    domains = load_domains(DataConfig(str(data_root)), "train")
    whole = UnpairedStream(*domains, SMALL, seed=5, epochs=3)
    rest = UnpairedStream(*domains, SMALL, seed=5, epochs=3, start=4)
    assert len(rest) == len(whole) - 4 == 5
    for i in range(len(rest)):
        assert np.array_equal(rest[i], whole[i + 4])


def test_workers_share_the_steps_of_a_larger_batch(data_root):
    domains = [FolderDomain(data_root / name) for name in ("trainA", "trainB")]

    def stream(batch_size, **place):
        config = DataConfig(load_size=36, crop_size=32, batch_size=batch_size)
        return list(iterate(UnpairedStream(*domains, config, seed=3, epochs=2, start=6, **place)))

    one = stream(6)
    shares = [stream(2, rank=rank, workers=3) for rank in range(3)]
    assert len(one) == 1 and [len(share) for share in shares] == [1, 1, 1]
    for column in ("real_a", "real_b"):
        joined = np.concatenate([share[0][column] for share in shares])
        assert np.array_equal(joined, one[0][column])


def test_augmentation(rng):
    """Every crop position and both mirrors occur; values are those of the image."""
    image = np.arange(36 * 36, dtype=np.float32).reshape(1, 36, 36)
    corners = set()
    for i in range(600):
        crop = augment(image, SMALL, np.random.default_rng(i))
        mirrored = crop[0, 0, 0] > crop[0, 0, 1]
        top, left = divmod(int(crop[0, 0, -1 if mirrored else 0]), 36)
        whole = image[:, top : top + 32, left : left + 32]
        assert np.array_equal(crop, whole[:, :, ::-1] if mirrored else whole)
        corners.add((top, left, bool(mirrored)))
    assert corners == {(t, x, m) for t in range(5) for x in range(5) for m in (True, False)}


def test_images_are_resized_to_a_square(data_root):
    image = read_image(data_root / "trainA" / "0.png")
    config = DataConfig(load_size=32, crop_size=32, flip=False)
    expected = to_chw(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(augment(image, config, np.random.default_rng(0)), expected)


def batches(data_root, workers):
    config = DataConfig(str(data_root), load_size=36, crop_size=32, batch_size=2, workers=workers)
    stream = UnpairedStream(*load_domains(config, "train"), config, seed=3, epochs=5)
    rows = create_dataset(stream).create_dict_iterator(num_epochs=1, output_numpy=True)
    return [(row["real_a"], row["real_b"]) for row in rows]


def test_the_number_of_workers_changes_nothing(data_root):
    one, many = batches(data_root, 1), batches(data_root, 8)
    assert len(one) == len(many) == 10
    assert one[0][0].shape == (2, 3, 32, 32)
    assert all(np.array_equal(x, y) for x, y in zip(one, many))


def test_mindrecord_of_the_tutorials_kind(data_root, tmp_path):
    path = tmp_path / "pairs.mindrecord"
    folder = replace(SMALL, root=str(data_root))
    assert write_mindrecord(folder, path, seed=9) == 3
    with pytest.raises(UserError, match="exists already"):
        write_mindrecord(folder, path)

    original = UnpairedStream(*load_domains(folder, "train"), folder, seed=9)
    config = DataConfig(str(path), load_size=32, crop_size=32, flip=False)
    a, b = load_domains(config, "train")
    assert len(a) == len(b) == 3
    assert all(np.array_equal(a.load(i), original[i][0]) for i in range(3))
    assert all(np.array_equal(b.load(i), original[i][1]) for i in range(3))
    # Unpaired training draws each column in an order of its own, and shows the rows as they are.
    stream = UnpairedStream(a, b, config, seed=0)
    assert {stream[i][0].tobytes() for i in range(3)} == {a.load(i).tobytes() for i in range(3)}


def test_a_mindrecord_file_is_read_in_the_order_of_the_stream(data_root, tmp_path, monkeypatch):
    """Rows come by MindSpore's reader, a part at a time; pairs are those read one by one."""
    folder = DataConfig(str(data_root), load_size=40, crop_size=40)
    write_mindrecord(folder, tmp_path / "m", seed=9)
    config = replace(folder, root=str(tmp_path / "m"), crop_size=32, batch_size=2)
    pair = load_domains(config, "train")
    monkeypatch.setattr("cyclegan_ms.data.stream.PART", 2)
    for paired, start, rank, workers in ((False, 0, 0, 1), (True, 2, 0, 1), (False, 4, 1, 2)):
        stream = UnpairedStream(
            *pair, config, seed=4, epochs=5, start=start, paired=paired, rank=rank, workers=workers
        )
        found = list(iterate(stream))
        assert len(found) == len(stream) // 2 >= 4
        for column, side in (("real_a", 0), ("real_b", 1)):
            expected = np.stack([stream[i][side] for i in range(len(stream))])
            assert np.array_equal(np.concatenate([batch[column] for batch in found]), expected)
    one_by_one = {stream.index(0, number) for number in range(stream.epoch_images)}
    assert one_by_one == {0, 1, 2}


def test_what_tells_a_mindrecord_file_from_others(data_root, tmp_path, monkeypatch):
    folder = replace(SMALL, root=str(data_root))
    write_mindrecord(folder, tmp_path / "m", seed=9)
    config = replace(SMALL, root=str(tmp_path / "m"), load_size=32)
    rows = load_domains(config, "train")[0]
    sums = [f"(3, 32, 32) {zlib.crc32(rows.load(i).tobytes())}" for i in range(3)]
    assert rows.names == sums
    assert load_domains(replace(config, max_images=2), "train")[0].names == sums[:2]
    monkeypatch.setattr(domains.MindRecordDomain, "NAMED", 2)
    assert load_domains(config, "train")[0].names == ["3 rows", sums[0], sums[2]]


def test_a_stream_in_parts_is_the_stream(data_root, monkeypatch):
    whole = batches(data_root, 2)
    config = DataConfig(str(data_root), load_size=36, crop_size=32, batch_size=2)
    stream = UnpairedStream(*load_domains(config, "train"), config, seed=3, epochs=5)
    monkeypatch.setattr("cyclegan_ms.data.stream.PART", 4)
    parts = list(iterate(stream))
    assert create_dataset(stream, 8, 4).get_dataset_size() == 2
    assert len(parts) == len(whole) == 10
    for part, (real_a, real_b) in zip(parts, whole):
        assert np.array_equal(part["real_a"], real_a) and np.array_equal(part["real_b"], real_b)


@pytest.mark.parametrize("size", [64, 48])
def test_mindrecord_of_another_size(data_root, tmp_path, size):
    path = tmp_path / "pairs.mindrecord"
    write_mindrecord(replace(SMALL, root=str(data_root)), path)
    config = DataConfig(str(path), load_size=size, crop_size=size)
    with pytest.raises(UserError, match=rf"\(3, 32, 32\).*data.crop_size {size}"):
        load_domains(config, "train")


def test_not_a_mindrecord(tmp_path):
    path = tmp_path / "x.mindrecord"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UserError, match="is not a MindRecord file"):
        load_domains(DataConfig(str(path)), "train")


def test_shipped_sample():
    folder = Path(__file__).parents[1] / "data" / "sample"
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1_000_000
    a, b = load_domains(DataConfig(str(folder)), "train")
    means = []
    for domain in (a, b):
        pixels = np.stack([np.asarray(domain.load(i), float) for i in range(20)]).reshape(-1, 3)
        colourful = pixels.max(1) - pixels.min(1) > 90  # the fruit, not table and wall
        means.append(pixels[colourful].mean(0))
    # Oranges have hardly any blue; apples as much of it as of green.
    assert means[1][2] / means[1][1] < 0.3 < 0.5 < means[0][2] / means[0][1]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["a.eps", "a.ps", "a.png", "a.jpg"])
def test_programs_are_no_pictures(name, tmp_path, data_root):
    """Whatever its name is, no PostScript reaches Ghostscript, in training or in translation."""
    (data_root / "trainA" / name).write_bytes(EPS)
    known = Path(name).suffix in known_endings()
    assert known == (name in ("a.png", "a.jpg"))
    with pytest.raises(OSError, match="not an image"):
        read_image(data_root / "trainA" / name)
    with pytest.raises(OSError, match="not an image"):
        open_picture(data_root / "trainA" / name)
    domain = FolderDomain(data_root / "trainA")
    assert [path.name for path in domain.paths if path.name == name] == ([name] if known else [])
    if known:
        with pytest.raises(OSError, match="not an image"):
            domain.load(domain.paths.index(data_root / "trainA" / name))


def test_the_usual_types_are_read(tmp_path, rng):
    """By content and by ending."""
    pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    for ending in ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "tga", "jp2"):
        path = tmp_path / f"a.{ending}"
        Image.fromarray(pixels).save(path)
        assert path.suffix in known_endings() and read_image(path).size == (9, 8), ending


def test_links_are_followed_once_and_the_rest_is_counted(data_root, tmp_path, caplog):
    """In training as in translation: nothing is left out in silence."""
    caplog.set_level("INFO", "cyclegan_ms")
    folder, other = data_root / "trainA", tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    for name in ("x.png", "deep/y.png"):
        (other / name).write_bytes((folder / "0.png").read_bytes())
    (folder / "linked").symlink_to(other)
    (other / "back").symlink_to(folder)  # a loop
    (folder / "nowhere.png").symlink_to(tmp_path / "missing.png")
    for name in ("a.cr2", "b.CR2", "c.txt", "d"):
        (folder / name).touch()
    domain = FolderDomain(folder)
    names = [str(path.relative_to(folder)) for path in domain.paths]
    assert names == ["0.png", "1.png", "2.png", "linked/deep/y.png", "linked/x.png"]
    assert "left out 4 files of other types in" in caplog.text
    assert ".cr2 2, .txt 1, without an ending 1" in caplog.text
    assert "raw files must be developed first" in caplog.text
    assert "skipped" in caplog.text and "nowhere.png" in caplog.text
    jobs = plan(folder, tmp_path / "out", Options())
    assert [str(job.source.relative_to(folder)) for job in jobs] == [*names, "nowhere.png"]


def test_a_png_with_much_text_is_a_picture(tmp_path):
    """Two MiB of XMP, such as editors write."""
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "x" * 2**21)
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", pnginfo=text)
    assert read_image(tmp_path / "a.png").size == (5, 4)
    assert open_picture(tmp_path / "a.png").image.size == (5, 4)
