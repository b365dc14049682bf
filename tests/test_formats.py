"""What is a picture: endings, odd and broken files, what is read only with a package more."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import ROOT
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.data.formats import find_images, known_endings
from cyclegan_ms.data.images import read_image
from cyclegan_ms.translate.pictures import open_picture
from cyclegan_ms.translate.plan import Options, plan

pytestmark = pytest.mark.quick


def test_find_images_is_recursive_sorted_and_picky(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/deep/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(p.relative_to(tmp_path)) for p in find_images(tmp_path)]
    assert found == ["a.jpg", "b.PNG", "sub/deep/c.webp"]


def test_whatever_pillow_raises_is_an_unreadable_file(tmp_path):
    """A bad EXIF chunk ends in a SyntaxError, a broken PPM header in a ValueError."""
    image = Image.new("RGB", (4, 4))
    image.save(tmp_path / "exif.png", exif=b"Exif\x00\x00nothing of the kind")
    (tmp_path / "header.ppm").write_bytes(b"P6 4 x 255 ")
    for name in ("exif.png", "header.ppm"):
        with pytest.raises(OSError):
            read_image(tmp_path / name)


def test_a_pipe_does_not_hang(data_root):
    os.mkfifo(data_root / "trainA" / "pipe.png")
    domain = FolderDomain(data_root / "trainA")
    assert [path.name for path in domain.left_out] == ["pipe.png"] and len(domain) == 3


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
    assert np.abs(np.array(image.getpixel((32, 24))) - (200, 40, 40)).max() <= 4
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
