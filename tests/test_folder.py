"""Files and folders: names, places, options, and a corpus of odd and broken files."""

import itertools
import os
import stat
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from helpers import Negative, no_file_larger_than
from PIL import ExifTags, Image, ImageCms
from PIL.IptcImagePlugin import getiptcinfo
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cyclegan_ms.errors import UserError
from cyclegan_ms.files import shown
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.translate import Translator
from cyclegan_ms.translate.folder import translate_files
from cyclegan_ms.translate.plan import Options, plan
from cyclegan_ms.translate.progress import Done, Shown, TimeLeft
from cyclegan_ms.weights.checkpoint import save_generator

pytestmark = pytest.mark.usefixtures("pynative")


def draw(path, size=(9, 7), color="red", mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def run(source, output, translator=None, back=None, **options):
    options = Options(**options)
    return translate_files(
        translator or Translator(Negative()), plan(source, output, options), options, back
    )


def names(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------- names and places


def test_names_are_kept(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    for name in ("a.jpg", "b.PNG", "sub/c.webp", "d.gif", "d.png", "e.f.tif"):
        draw(source / name)
    result = run(source, output)
    assert names(output) == {"a.jpg", "b.PNG", "sub/c.webp", "d.png", "d_gif.png", "e.f.tif"}
    assert len(result.written) == 6 and not result.failed
    for path in result.written:
        image = Image.open(path)
        assert image.size == (9, 7)
        # The negative of red is cyan; WebP and JPEG are lossy.
        assert np.abs(np.asarray(image.convert("RGB"), int) - [0, 255, 255]).max() < 12


def test_another_format_loses_nobody(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    for name, color in (
        ("a.jpg", "red"),
        ("a.png", "blue"),
        ("a.bmp", "lime"),
        ("a_jpg.png", "white"),
    ):
        draw(source / name, color=color)
    run(source, output, format="png")
    assert names(output) == {"a.png", "a_jpg.png", "a_jpg_jpg.png", "a_bmp.png"}
    assert Image.open(output / "a.png").getpixel((0, 0)) == (255, 255, 0)
    assert Image.open(output / "a_bmp.png").getpixel((0, 0)) == (255, 0, 255)


def test_quality_and_format(tmp_path, rng):
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "a.png")
    sizes = []
    for kind in ("jpg", "webp"):
        for quality in (20, 95):
            folder = tmp_path / f"{kind}{quality}"
            run(tmp_path / "a.png", folder, format=kind, quality=quality)
            sizes.append((folder / f"a.{kind}").stat().st_size)
            assert Image.open(folder / f"a.{kind}").format == {"jpg": "JPEG", "webp": "WEBP"}[kind]
    assert sizes[0] < sizes[1] / 2 and sizes[2] < sizes[3] / 2


def test_bad_places(tmp_path):
    source = tmp_path / "in"
    with pytest.raises(UserError, match="no such file or folder"):
        plan(source, tmp_path / "out", Options())
    source.mkdir()
    with pytest.raises(UserError, match="holds no image"):
        plan(source, tmp_path / "out", Options())
    draw(source / "x.png")
    for inside in (source, source / "out"):
        with pytest.raises(UserError, match="is --input or lies in it"):
            plan(source, inside, Options())
    with pytest.raises(UserError, match="lies in --output"):
        plan(source, tmp_path, Options())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        plan(source, tmp_path / "file" / "below", Options())
    with pytest.raises(UserError, match="cannot be written"):
        plan(source, "/proc/nowhere", Options())
    plan(source, tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()  # not before there is something to put into it
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        plan(source, tmp_path / "out", Options())
    assert (tmp_path / "out" / "x.png").read_text() == "mine"
    assert names(tmp_path / "out") == {"x.png"}


def test_several_inputs_and_patterns(tmp_path):
    """Files by their names; folders under theirs, where there is more than one input."""
    for name in ("one/a.jpg", "one/sub/b.png", "two/a.jpg", "c.png", "d.png", "[e].png"):
        draw(tmp_path / name)
    inputs = [tmp_path / name for name in ("one", "two/", "c.png", "[e].png")]
    run(inputs, tmp_path / "out")
    assert names(tmp_path / "out") == {
        "one/a.jpg", "one/sub/b.png", "two/a.jpg", "c.png", "[e].png"
    }  # fmt: skip
    run([str(tmp_path / "?.png"), str(tmp_path / "one/**/b.png")], tmp_path / "found")
    assert names(tmp_path / "found") == {"b.png", "c.png", "d.png"}
    run([tmp_path / "c.png", tmp_path / "c.png"], tmp_path / "once")
    assert names(tmp_path / "once") == {"c.png"}
    with pytest.raises(UserError, match=r"--input: 2 of them are called a\.jpg; give one at a"):
        plan([tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg"], tmp_path / "x", Options())
    with pytest.raises(UserError, match=r"--input .*/\*\.gif: no such file or folder"):
        plan(tmp_path / "*.gif", tmp_path / "x", Options())
    with pytest.raises(UserError, match=r"two lies in --output .*two/below|is --input or lies in"):
        plan([tmp_path / "one", tmp_path / "two"], tmp_path / "two" / "below", Options())


def test_one_picture_into_a_file_of_another_name(tmp_path):
    draw(tmp_path / "a.png")
    result = run(tmp_path / "a.png", tmp_path / "new" / "b.webp")
    assert result.written == [tmp_path / "new" / "b.webp"]
    assert Image.open(tmp_path / "new" / "b.webp").format == "WEBP"
    both = Translator(Negative())
    run(tmp_path / "a.png", tmp_path / "c.jpeg", both, both, cycle=True, format="jpg")
    assert {"c.jpeg", "c_cycle.jpeg"} < names(tmp_path)
    two = [tmp_path / "a.png", tmp_path / "c.jpeg"]
    for inputs, output, options, words in (
        (two, "x.png", {}, "give a folder, such as .*/x, for 2 pictures"),
        ([tmp_path / "a.png"], "x.pgn", {}, r"did you mean .*/x\.png\? A new folder of that name"),
        ([tmp_path / "a.png"], "x.png", {"format": "tif"}, "is not that of --format tif"),
        ([tmp_path / "a.png"], "x.gif", {}, r"\.gif is not written; \.bmp \.jpeg .* \.webp"),
        ([tmp_path / "a.png"], "c.jpeg", {}, "nothing is overwritten"),
    ):
        with pytest.raises(UserError, match=words):
            plan(inputs, tmp_path / output, Options(**options))


def test_skip_existing_does_the_rest(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    draw(source / "a.png")
    run(source, output)
    before = (output / "a.png").stat().st_mtime_ns
    draw(source / "b.png")
    result = run(source, output, skip_existing=True)
    assert [p.name for p in result.skipped] == ["a.png"]
    assert [p.name for p in result.written] == ["b.png"]
    assert (output / "a.png").stat().st_mtime_ns == before


def test_skip_existing_makes_only_what_is_missing(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    draw(source / "a.png")
    both = Translator(Negative())
    run(source, output)
    result = run(source, output, both, both, skip_existing=True, cycle=True)
    assert len(result.written) == 1 and names(output) == {"a.png", "a_cycle.png"}
    (output / "a.png").unlink()
    (output / "a_cycle.png").write_text("mine")
    run(source, output, both, both, skip_existing=True, cycle=True)
    assert (output / "a_cycle.png").read_text() == "mine"
    assert Image.open(output / "a.png").size == (9, 7)


def test_long_names(tmp_path):
    draw(tmp_path / "in" / ("a" * 250 + ".png"))
    assert len(run(tmp_path / "in", tmp_path / "out").written) == 1
    with pytest.raises(UserError, match="File name too long"):
        plan("a" * 300, tmp_path / "other", Options())


def test_other_files_are_counted(tmp_path, caplog):
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "in" / ".hidden.png").touch()
    with caplog.at_level("INFO", "cyclegan_ms"):
        run(tmp_path / "in", tmp_path / "out")
    assert "left out 1 file of other types in " in caplog.text


def test_stopping_finishes_the_batch(tmp_path):
    for index in range(5):
        draw(tmp_path / "in" / f"{index}.png")
    stop = StopRequest()

    class Stopping(Negative):
        def __call__(self, pixels):
            stop.caught = 2
            return super().__call__(pixels)

    options = Options(batch_size=2)
    jobs = plan(tmp_path / "in", tmp_path / "out", options)
    result = translate_files(Translator(Stopping()), jobs, options, stop=stop)
    assert [p.name for p in result.written] == ["0.png", "1.png"]
    assert result.unfinished == 3 and names(tmp_path / "out") == {"0.png", "1.png"}


def test_progress_of_pictures_and_within_large_ones(tmp_path):
    """The second is computed in tiles: layer by layer, and so on its way back."""
    draw(tmp_path / "in" / "a.png", (8, 8))
    draw(tmp_path / "in" / "b.png", (40, 40))
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    save_generator(spec.build(), spec, tmp_path / "g.ckpt")
    translator = Translator(tmp_path / "g.ckpt", tile=32)
    jobs = plan(tmp_path / "in", tmp_path / "out", Options(cycle=True))
    calls = []
    translate_files(translator, jobs, Options(cycle=True), translator, calls.append)
    # A pixel counts 1, in tiles 4, and a hundredth more for reading and writing it.
    small, large = 64 * 1.01, 1600 * 4.01
    share = pytest.approx(small / (small + large))
    first = calls.index(Done(1, 2, "image", "a.png", share))
    assert calls[0] == Done(0, 2, "image", "a.png", 0)
    assert calls[-1] == Done(2, 2, "image", "b.png", 1)
    parts = [done.count for done in calls[first + 1 : -1]]
    assert parts == sorted(parts) and {int(part) for part in parts} == {1}
    assert parts[0] == 1 and parts[-1] == 1.99 and 1.5 in parts and len(parts) > 10
    half = next(done for done in calls if done.count == 1.5)
    assert half.share == pytest.approx((small + large / 2) / (small + large))


def test_the_work_counts_pixels_at_which_it_is_done(tmp_path):
    """At one size all small pictures take as long; broken and refused ones nothing."""
    for name, size in (("a.png", (8, 8)), ("b.png", (16, 16)), ("c.png", (90, 90))):
        draw(tmp_path / "in" / name, size)
    (tmp_path / "in" / "d.png").write_bytes(b"broken")
    jobs = plan(tmp_path / "in", tmp_path / "out", Options())
    calls = []
    translator = Translator(Negative(), size=64)
    translate_files(translator, jobs, Options(max_megapixels=0.005), progress=calls.append)
    efforts = [64 * 64 + side * side / 100 for side in (8, 16)]
    shares = {done.count: done.share for done in calls}
    assert shares == {
        0: 0, 1: pytest.approx(efforts[0] / sum(efforts)), 2: 1, 3: 1, 4: 1,
    }  # fmt: skip


def test_of_very_many_pictures_some_are_measured(tmp_path, monkeypatch):
    """Every third is, where three times as many come; the others count as much on average."""
    monkeypatch.setattr("cyclegan_ms.translate.folder._LOOKED_AT", 2)
    for index, side in enumerate((8, 80, 80, 16, 80, 80)):
        draw(tmp_path / "in" / f"{index}.png", (side, side))
    jobs = plan(tmp_path / "in", tmp_path / "out", Options())
    calls = []
    translate_files(Translator(Negative()), jobs, Options(), progress=calls.append)
    shares = {done.count: done.share for done in calls}
    efforts = [64, 160, 160, 256, 160, 160]
    assert [shares[n] for n in range(7)] == pytest.approx(np.cumsum([0, *efforts]) / 960)


def test_the_time_left_leaves_out_what_warms_up(monkeypatch):
    """The first piece took 90 s, the next quarter 20 s: so the last half takes 40 s."""
    clock = iter([0, 90, 110, 200, 210])
    monkeypatch.setattr("cyclegan_ms.translate.progress.time.monotonic", lambda: next(clock))
    left = TimeLeft()
    assert left(Done(0, 3, "image", "a.jpg", 0)) == ""
    assert left(Done(1, 3, "image", "a.jpg", 0.25)) == ""
    assert left(Done(2, 3, "image", "b.jpg", 0.5)) == ", about 40 s left"
    assert left(Done(3, 9, "frame", "film.mp4", 3 / 9)) == ""  # which has a clock of its own
    assert left(Done(6, 9, "frame", "film.mp4", 6 / 9)) == ", about 10 s left"


def test_a_large_picture_is_stopped_within(tmp_path):
    """It would take minutes; what is done of it is given up, and the rest is left."""
    for name, side in (("a.png", 8), ("b.png", 40), ("c.png", 8)):
        draw(tmp_path / "in" / name, (side, side))
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    save_generator(spec.build(), spec, tmp_path / "g.ckpt")
    translator = Translator(tmp_path / "g.ckpt", tile=32)
    stop = StopRequest()

    def press(done):
        if done.count > 1.3:
            stop.caught = 2

    jobs = plan(tmp_path / "in", tmp_path / "out", Options())
    result = translate_files(translator, jobs, Options(), progress=press, stop=stop)
    assert names(tmp_path / "out") == {"a.png"} and not result.failed
    assert [path.name for path in result.written] == ["a.png"] and result.unfinished == 2


def test_progress_without_a_terminal(caplog, monkeypatch):
    clock = itertools.count(0, 5)  # two looks for each line: a fifth in ten seconds
    monkeypatch.setattr("cyclegan_ms.translate.progress.time.monotonic", lambda: next(clock))
    caplog.set_level("INFO")
    with Shown(terminal=False, seconds=0.0) as progress:
        progress(Done(0, 4, "image", "big.jpg", 0))
        progress(Done(1, 4, "image", "big.jpg", 0.1))
        progress(Done(1.25, 4, "image", "big.jpg", 0.3))
        progress(Done(7, 0, "frame", "film.mp4", 0))
    assert caplog.messages == [
        "0 of 4 images", "1 of 4 images", "1 of 4 images, 25% of big.jpg, about 35 s left",
        "7 frames",
    ]  # fmt: skip
    caplog.clear()
    with Shown(terminal=False) as progress:  # a line every half minute
        progress(Done(1, 4, "image", "small.jpg", 0.25))
    assert not caplog.messages


def test_progress_at_a_terminal(capsys, monkeypatch):
    clock = itertools.count(0, 10)  # a fifth in ten seconds: so three fifths take thirty
    monkeypatch.setattr("cyclegan_ms.translate.progress.time.monotonic", lambda: next(clock))
    with Shown(terminal=True) as progress:
        long = f"{'big' * 27}{{}}.jpg"  # would leave the bar no room
        progress(Done(0.25, 2, "image", long, 0.2))
        progress(Done(0.5, 2, "image", long, 0.4))
        progress(Done(2, 2, "image", "small.jpg", 1))
        progress(Done(30, 60, "frame", "film.mp4", 0.5))
    images, film = capsys.readouterr().err.strip().split("\n")
    begin, first, second, *_, last = images.split("\r")
    assert begin.startswith("0%|") and "0/2 images [00:00, 25% of big" in begin
    assert " 20%|" in first and "[00:00, 25% of bigbigbigbigbigb…bigbigbig{}.jpg]" in first
    assert " 40%|" in second and "0/2 images [00:00, about 30 s left, 50% of bigbi" in second
    assert last.startswith("100%|") and "2/2 images [" in last and "jpg" not in last
    assert "film.mp4:  50%|" in film and "30/60 [" in film and "frame/s" in film


# ----------------------------------------------------------------------------------- options


def test_batches_are_of_one_size(tmp_path):
    for index, size in enumerate([(9, 7), (9, 7), (9, 7), (12, 7), (9, 7), (9, 7)]):
        draw(tmp_path / "in" / f"{index}.png", size)
    shapes = []

    class Spy(Negative):
        def __call__(self, pixels):
            shapes.append(len(pixels))
            return super().__call__(pixels)

    result = run(tmp_path / "in", tmp_path / "out", Translator(Spy()), batch_size=2)
    assert shapes == [2, 1, 1, 2] and len(result.written) == 6


def test_a_batch_that_is_too_large_is_done_one_by_one(tmp_path):
    for index in range(3):
        draw(tmp_path / "in" / f"{index}.png")

    class Small(Negative):
        def __call__(self, pixels):
            if len(pixels) > 1:
                raise RuntimeError("out of memory")
            return super().__call__(pixels)

    result = run(tmp_path / "in", tmp_path / "out", Translator(Small()), batch_size=3)
    assert len(result.written) == 3 and not result.failed


def test_side_by_side_and_cycle(tmp_path):
    draw(tmp_path / "in" / "a.png")
    both = Translator(Negative())
    run(tmp_path / "in", tmp_path / "row", both, both, side_by_side=True, cycle=True)
    row = Image.open(tmp_path / "row" / "a.png")
    assert row.size == (27, 7)
    assert [row.getpixel((x, 3)) for x in (4, 13, 22)] == [(255, 0, 0), (0, 255, 255), (255, 0, 0)]
    assert names(tmp_path / "row") == {"a.png"}
    run(tmp_path / "in", tmp_path / "pair", both, both, cycle=True)
    assert names(tmp_path / "pair") == {"a.png", "a_cycle.png"}
    assert Image.open(tmp_path / "pair" / "a_cycle.png").getpixel((0, 0)) == (255, 0, 0)
    draw(tmp_path / "in" / "a_cycle.png")
    with pytest.raises(UserError, match="both a result and a reconstruction"):
        plan(tmp_path / "in", tmp_path / "other", Options(cycle=True))


def test_names_longer_than_a_disk_takes_are_refused_before_anything_is_written(tmp_path):
    """255 bytes, of which a page's small copies take 11, and a reconstruction 6."""
    draw(tmp_path / "in" / f"{'a' * 246}.png")
    for allowed, options in ((255, {"cycle": True}), (244, {"page": True})):
        said = rf"the name aaa.* of its result would have \d+ bytes, {allowed} are the most"
        with pytest.raises(UserError, match=said):
            plan(tmp_path / "in", tmp_path / "out", Options(**options))
    assert not (tmp_path / "out").exists()
    plan(tmp_path / "in", tmp_path / "out", Options())
    (tmp_path / "in" / f"{'a' * 246}.png").rename(tmp_path / "in" / f"{'ä' * 120}.png")
    draw(tmp_path / "in" / f"{'b' * 240}.png")
    plan(tmp_path / "in", tmp_path / "out", Options(page=True))


# ------------------------------------------------------------------------- what a file carries


def test_what_is_not_there_is_not_called_damaged(tmp_path):
    from pillow_heif import register_heif_opener

    register_heif_opener()
    for kind in ("jpg", "png", "webp", "tif", "heic"):
        draw(tmp_path / "in" / f"a.{kind}", (64, 48))
    done = run(tmp_path / "in", tmp_path / "out")
    assert len(done.written) == 5 and not done.failed and not done.notes


def test_exif_and_profile_pass_through(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "me"
    exif[ExifTags.Base.Orientation] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif.get_ifd(0x8769)[ExifTags.Base.DateTimeOriginal] = "2026:11:23 11:00:00"
    for kind in ("jpg", "png", "webp", "tif"):
        draw(tmp_path / "in" / f"a.{kind}", (9, 7), exif=exif, icc_profile=profile)
    assert len(run(tmp_path / "in", tmp_path / "out").written) == 4
    for kind in ("jpg", "png", "webp", "tif"):
        image = Image.open(tmp_path / "out" / f"a.{kind}")
        assert image.size == (7, 9)
        assert image.getexif()[ExifTags.Base.Artist] == "me"
        if kind != "tif":  # where Pillow does not write this block
            taken = image.getexif().get_ifd(0x8769)[ExifTags.Base.DateTimeOriginal]
            assert taken == "2026:11:23 11:00:00"
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert image.info["icc_profile"] == profile


def test_a_profile_of_another_colour_space_is_left_out(tmp_path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"CMYK"
    draw(tmp_path / "a.jpg", mode="CMYK", color=(0, 255, 255, 0), icc_profile=bytes(profile))
    result = run(tmp_path / "a.jpg", tmp_path / "out")
    assert "another colour space" in " ".join(note for _, note in result.notes)
    assert "icc_profile" not in Image.open(tmp_path / "out" / "a.jpg").info


def test_damaged_and_oversized_exif(tmp_path):
    draw(tmp_path / "in" / "bad.jpg", exif=b"Exif\0\0junkjunkjunk")
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70000
    draw(tmp_path / "in" / "long.png", exif=exif)
    result = run(tmp_path / "in", tmp_path / "out", format="jpg")
    assert names(tmp_path / "out") == {"bad.jpg", "long.jpg"}
    assert {path.name: note for path, note in result.notes} == {
        "bad.jpg": "its EXIF data is damaged and left out",
        "long.png": "its EXIF data is left out: it is too long for a JPEG file",
    }


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rating/></x:xmpmeta>'
GEO = {
    33550: (12, (0.5, 0.5, 0.0)),  # tag: its type, its value
    33922: (12, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0)),
    34735: (3, (1, 1, 0, 1, 1024, 0, 1, 1)),
    34737: (2, "WGS 84|"),
}


def draw_geotiff(path, **options):
    tags = ImageFileDirectory_v2()
    for tag, (kind, value) in GEO.items():
        tags.tagtype[tag], tags[tag] = kind, value
    tags[700] = XMP
    draw(path, tiffinfo=tags, dpi=(300, 200), **options)


def found(path):
    """What a file holds besides pixels: its resolution, XMP, comment, texts, compression."""
    with Image.open(path) as image:
        image.load()
        dpi = tuple(map(round, image.info.get("dpi", ())))
        xmp = image.info.get("xmp")
        text = image.info.get("comment") or getattr(image, "text", {}).get("Title")
        return dpi, xmp, text, image.info.get("compression")


def test_a_number_in_place_of_xmp_makes_no_room(tmp_path):
    """It would be so many zeros."""
    tags = ImageFileDirectory_v2()
    tags.tagtype[700], tags[700], tags[274] = 4, 50_000_000, 1
    draw(tmp_path / "in" / "a.tif", tiffinfo=tags)
    run(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "a.tif").stat().st_size < 100_000


def test_pictures_of_bytes_as_arrays(tmp_path):
    draw(tmp_path / "in" / "a.png")
    with Image.open(tmp_path / "in" / "a.png") as image:
        expected = 255 - np.asarray(image.convert("RGB"))
    jobs = plan(tmp_path / "in" / "a.png", tmp_path / "a.npy", Options())
    result = translate_files(Translator(Negative()), jobs, Options())
    assert not result.failed
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)


def test_resolution_xmp_and_texts_pass_through(tmp_path):
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    texts.add_text("Title", "an apple")
    draw(tmp_path / "in" / "a.jpg", dpi=(300, 200), xmp=XMP, comment=b"an apple")
    draw(tmp_path / "in" / "b.png", dpi=(300, 200), pnginfo=texts)
    draw(tmp_path / "in" / "c.webp", xmp=XMP)
    draw(tmp_path / "in" / "d.bmp", dpi=(300, 200))
    draw_geotiff(tmp_path / "in" / "e.tif", compression="tiff_lzw")
    result = run(tmp_path / "in", tmp_path / "out")
    assert not result.notes
    assert {name: found(tmp_path / "out" / name) for name in names(tmp_path / "out")} == {
        "a.jpg": ((300, 200), XMP, b"an apple", None),
        "b.png": ((300, 200), XMP, "an apple", None),
        "c.webp": ((), XMP, None, None),
        "d.bmp": ((300, 200), None, None, 0),
        "e.tif": ((300, 200), XMP, None, "tiff_lzw"),
    }
    with Image.open(tmp_path / "out" / "e.tif") as image:
        assert {tag: image.tag_v2[tag] for tag in GEO} == {tag: v for tag, (_, v) in GEO.items()}


def test_a_turned_picture_has_its_resolution_turned(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    draw(tmp_path / "a.jpg", dpi=(300, 200), exif=exif)
    run(tmp_path / "a.jpg", tmp_path / "out")
    assert found(tmp_path / "out" / "a.jpg")[0] == (200, 300)


def test_what_a_type_has_no_place_for_is_noted(tmp_path):
    draw_geotiff(tmp_path / "in" / "a.tif")
    draw(tmp_path / "in" / "b.jpg", comment=b"an apple", xmp=XMP)
    notes = run(tmp_path / "in", tmp_path / "out", format="png").notes
    assert sorted((path.name, note) for path, note in notes) == [
        ("a.tif", "its geo tags are left out: png files have no place for that"),
        ("b.jpg", "its comment is left out: png files have no place for that"),
    ]
    notes = run(tmp_path / "in" / "a.tif", tmp_path / "row", side_by_side=True).notes
    assert [note for _, note in notes] == ["its geo tags are left out: they are for another size"]


IPTC = b"\x1c\x02\x78\x00\x0ba red apple\x1c\x02\x50\x00\x02me"
"""Two entries of IIM 4.2: mark, record, number, length, value; 120 is a caption, 80 an author."""


def test_iptc_data_passes_through(tmp_path):
    """As cameras and agencies write it, beside a preview, which would be of another picture."""
    resources = b"".join(
        b"8BIM"
        + number
        + b"\0\0"
        + len(value).to_bytes(4, "big")
        + value
        + b"\0" * (len(value) % 2)
        for number, value in ((b"\x04\x0c", b"preview"), (b"\x04\x04", IPTC))
    )
    block = b"Photoshop 3.0\0" + resources
    extra = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    draw(tmp_path / "in" / "a.jpg", extra=extra, icc_profile=profile)
    assert run(tmp_path / "in", tmp_path / "out").notes == []
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert getiptcinfo(image) == {(2, 120): b"a red apple", (2, 80): b"me"}
        assert set(image.info["photoshop"]) == {0x0404} and image.info["icc_profile"]
    notes = run(tmp_path / "in", tmp_path / "png", format="png").notes
    assert [note for _, note in notes] == [
        "its IPTC data is left out: png files have no place for that"
    ]


def test_compression_of_tiff_files(tmp_path):
    """Kept, but where EXIF blocks would be lost, or where it is for another kind of picture."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[ExifTags.Base.DateTimeOriginal] = "2026:11:23 11:00:00"
    exif[0x8769] = dict(exif.get_ifd(0x8769))
    draw(tmp_path / "in" / "plain.tif", compression="tiff_adobe_deflate")
    draw(tmp_path / "in" / "fax.tif", mode="1", color=1, compression="group4")
    draw(tmp_path / "in" / "taken.tif", exif=exif)
    _with_compression_said(tmp_path / "in" / "taken.tif")
    result = run(tmp_path / "in", tmp_path / "out")
    compressions = {name: found(tmp_path / "out" / name)[3] for name in names(tmp_path / "out")}
    assert compressions == {
        "plain.tif": "tiff_adobe_deflate",
        "fax.tif": "tiff_adobe_deflate",
        "taken.tif": "raw",
    }
    assert {path.name: note for path, note in result.notes} == {
        "fax.tif": "compressed with deflate, not group4",
        "taken.tif": "written without compression, so as to keep its EXIF data",
    }
    with Image.open(tmp_path / "out" / "taken.tif") as image:
        assert image.getexif().get_ifd(0x8769) == {0x9003: "2026:11:23 11:00:00"}


def _with_compression_said(path):
    """Compress a file's pixels with packbits, which Pillow does not do beside blocks of EXIF."""
    with Image.open(path) as image:
        rows, width = image.height, 3 * image.width
        pixels = image.tobytes()
    packed = b"".join(
        bytes([width - 1]) + pixels[row * width : (row + 1) * width] for row in range(rows)
    )
    data = path.read_bytes()
    data = data.replace(
        struct.pack("<HHIHH", 259, 3, 1, 1, 0), struct.pack("<HHII", 259, 3, 1, 32773)
    )
    for tag, value in ((273, len(data)), (279, len(packed))):
        start = next(
            i for kind in (3, 4) if (i := data.find(struct.pack("<HHI", tag, kind, 1))) >= 0
        )
        data = data[:start] + struct.pack("<HHII", tag, 4, 1, value) + data[start + 12 :]
    path.write_bytes(data + packed)


@pytest.mark.parametrize("kind", ["png", "tif", "ppm"])
def test_deep_colour_is_noted(tmp_path, kind, monkeypatch):
    values = np.linspace(0, 65535, 189).astype(np.uint16).reshape(7, 9, 3)
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, values, photometric="rgb")
    elif kind == "ppm":
        path.write_bytes(b"P6\n9 7\n65535\n" + values.astype(">u2").tobytes())
    else:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 9, 7, 16, 2, 0, 0, 0))]
        chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        ))  # fmt: skip
    if kind == "tif":
        monkeypatch.setitem(sys.modules, "tifffile", None)
    result = run(path, tmp_path / "out")
    assert [note for _, note in result.notes] == ["reduced to 8 bits"]
    expected = 255 - np.round(values / 257)
    with Image.open(result.written[0]) as image:
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def test_one_rule_for_all_floats_of_a_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name, value in (("dark.tif", 0.6), ("light.tif", 200.0)):
        Image.fromarray(np.full((7, 9), value, np.float32)).save(tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out")
    for name, value in (("dark.tif", 254.4), ("light.tif", 55)):
        result = tifffile.imread(tmp_path / "out" / name)
        assert result.shape == (7, 9, 3) and result[0, 0, 0] == pytest.approx(value, abs=1e-4)
    run(tmp_path / "in" / "dark.tif", tmp_path / "alone")
    assert tifffile.imread(tmp_path / "alone" / "dark.tif")[0, 0, 0] == pytest.approx(0.4)


def test_sixteen_bits_with_a_transparent_value(tmp_path):
    values = np.linspace(0, 65535, 63).astype(np.uint16).reshape(7, 9)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=0)
    run(tmp_path / "a.png", tmp_path / "out")
    result = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert result[0, 0, 3] == 0 and (result.reshape(-1, 4)[1:, 3] == 255).all()
    expected = 255 - np.round(values / 257)
    assert np.abs(result[..., 0].astype(int) - expected).max() <= 1


def test_a_gray_result_has_no_profile_of_colours(tmp_path):
    class ToGray(Negative):
        def __call__(self, pixels):
            return super().__call__(pixels)[:, :1]

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    draw(tmp_path / "a.jpg", icc_profile=profile)
    result = run(tmp_path / "a.jpg", tmp_path / "out", Translator(ToGray()))
    image = Image.open(tmp_path / "out" / "a.jpg")
    assert image.mode == "L" and "icc_profile" not in image.info
    assert "another colour space" in " ".join(note for _, note in result.notes)


def test_whatever_an_engine_raises_is_a_failure(tmp_path):
    for name in ("a.png", "b.png"):
        draw(tmp_path / "in" / name, color="red" if name == "a.png" else "blue")

    class Moody(Negative):
        def __call__(self, pixels):
            if pixels[0, 0, 0, 0] > 0:
                raise Exception("bad allocation")
            return super().__call__(pixels)

    result = run(tmp_path / "in", tmp_path / "out", Translator(Moody()), batch_size=2)
    assert [(p.name, reason) for p, reason in result.failed] == [("a.png", "bad allocation")]
    assert names(tmp_path / "out") == {"b.png"}


def test_more_than_memory_is_a_failure(tmp_path):
    draw(tmp_path / "strip.png", (1, 5000))
    result = run(tmp_path / "strip.png", tmp_path / "out", Translator(Negative(), size=4096))
    assert "4096x20480000 pixels need about" in result.failed[0][1]


def test_alpha_is_laid_on_white_where_the_format_has_none(tmp_path):
    draw(tmp_path / "a.png", mode="RGBA", color=(255, 255, 255, 0))
    run(tmp_path / "a.png", tmp_path / "png")
    assert Image.open(tmp_path / "png" / "a.png").getpixel((0, 0)) == (0, 0, 0, 0)
    run(tmp_path / "a.png", tmp_path / "jpg", format="jpg")
    assert min(Image.open(tmp_path / "jpg" / "a.jpg").getpixel((0, 0))) > 250


# -------------------------------------------------------------------------------- the corpus


def _truncated(path, fraction=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])


def make_corpus(folder):
    """Every odd or broken file that we could think of."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    noise.save(folder / "truncated.jpg")
    _truncated(folder / "truncated.jpg")
    noise.save(folder / "whole.png")
    data = (folder / "whole.png").read_bytes()
    (folder / "whole.png").unlink()
    header, pixels = data.index(b"IHDR"), data.index(b"IDAT")
    checksum = pixels + 4 + int.from_bytes(data[pixels - 4 : pixels], "big")
    for name, position in (
        ("header_checksum.png", header + 4 + 13),
        ("pixels_checksum.png", checksum),
        ("pixels.png", pixels + 50),
    ):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        (folder / name).write_bytes(broken)
    (folder / "zero.jpg").touch()
    (folder / "text.jpg").write_text("To whom it may concern")
    draw(folder / "one.png", (1, 1))
    draw(folder / "strip.png", (1, 5000))
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    palette = noise.quantize(8)
    palette.save(folder / "palette.png", transparency=0)
    Image.fromarray(np.full((9, 7), 40000, np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(np.linspace(0, 1, 63, dtype=np.float32).reshape(9, 7)).save(
        folder / "float.tif"
    )
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    noise.save(folder / "rotated.jpg", exif=exif)
    noise.save(folder / "progressive.jpg", progressive=True)
    noise.save(folder / "animated.gif", save_all=True, append_images=[noise.rotate(90), noise])
    for name in ("with space.png", "苹果.png", "quo'te\".png", "new\nline.png"):
        draw(folder / name)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "folder.png").mkdir()
    draw(folder / "folder.png" / "deep.png")
    (folder / "circle").symlink_to(".")
    draw(folder / "locked.png")
    os.chmod(folder / "locked.png", 0)
    os.mkfifo(folder / "pipe.png")
    draw(folder / "large.png", (10000, 5000), 0, "L")


CONVERTED = {  # name of the result: width and height
    "pixels_checksum.png": (30, 40),  # every pixel is there
    "one.png": (1, 1),
    "strip.png": (1, 5000),
    "cmyk.jpg": (30, 40),
    "palette.png": (30, 40),
    "sixteen.png": (7, 9),
    "float.tif": (7, 9),
    "rotated.jpg": (40, 30),
    "progressive.jpg": (30, 40),
    "animated.png": (30, 40),
    "with space.png": (9, 7),
    "苹果.png": (9, 7),
    "quo'te\".png": (9, 7),
    "new\nline.png": (9, 7),
    "folder.png/deep.png": (9, 7),
}
FAILED = {
    "truncated.jpg": "truncated",
    "header_checksum.png": "not an image, or damaged",
    "pixels.png": "broken data stream",
    "zero.jpg": "an empty file",
    "text.jpg": "not an image",
    "loop.png": "Too many levels of symbolic links",
    "dangling.png": "a link that leads nowhere",
    "pipe.png": "not a regular file",
    "large.png": "10000x5000 pixels, more than --max_megapixels 40",
}
NOTES = {
    "sixteen.png": "reduced to 8 bits, as a png file; --format tif keeps more",
    "animated.gif": "the first of 3 frames",
    "cmyk.jpg": "its colours for print became RGB",
}


def test_corpus(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    make_corpus(source)
    converted, failed = dict(CONVERTED), dict(FAILED)
    if os.geteuid() == 0:  # nothing is locked for root
        converted["locked.png"] = (9, 7)
    else:
        failed["locked.png"] = "Permission denied"
    result = run(source, output, batch_size=3, max_megapixels=40)
    os.chmod(source / "locked.png", stat.S_IRUSR | stat.S_IWUSR)
    sizes = {}
    for path in result.written:
        if path.name == "float.tif":
            assert tifffile.imread(path).shape == (9, 7, 3)
            sizes["float.tif"] = (7, 9)
            continue
        with Image.open(path) as image:
            image.load()
            sizes[str(path.relative_to(output))] = image.size
    assert sizes == converted
    assert names(output) == set(converted)  # nothing half-written
    reasons = {str(path.relative_to(source)): reason for path, reason in result.failed}
    assert reasons.keys() == failed.keys()
    for name, words in failed.items():
        assert words in reasons[name], (name, reasons[name])
    assert {path.name: note for path, note in result.notes} == NOTES
    assert all("\n" not in shown(path) + reason for path, reason in result.failed)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif"])
def test_a_full_disk_keeps_no_part_of_a_picture(tmp_path, rng, ending):
    """Pillow's JPEG encoder passes over a write that was cut short."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        noise.save(tmp_path / "in" / f"{name}.{ending}")
    with no_file_larger_than(1500):
        result = run(tmp_path / "in", tmp_path / "out")
    assert not result.written and not names(tmp_path / "out")
    assert [reason for _, reason in result.failed] == ["File too large"] * 2


def test_fifty_megapixels_when_the_limit_allows(tmp_path):
    draw(tmp_path / "large.png", (10000, 5000), 0, "L")
    result = run(tmp_path / "large.png", tmp_path / "out", Translator(Negative(), size=64))
    assert not result.failed
    assert Image.open(result.written[0]).size == (10000, 5000)


def test_names_in_a_line_of_text():
    assert shown("plain 苹果.png") == "plain 苹果.png"
    assert shown("two\nlines.png") == "'two\\nlines.png'"
    assert shown(os.fsdecode(b"latin\xe9.png")) == "latin\\xe9.png"
