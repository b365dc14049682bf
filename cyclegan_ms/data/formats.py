"""Which files are pictures: the types that are read, how they are found, what the others are."""

import logging
import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cyclegan_ms.data.arrays import ArrayFile, open_npy, open_tiff
from cyclegan_ms.files import shown

__all__ = [
    "ARRAYS",
    "HEIC",
    "check_megapixels",
    "file_size",
    "find_images",
    "has_deep_colors",
    "is_deep",
    "known_endings",
    "open_image",
    "pillow_errors",
    "twice",
]

log = logging.getLogger(__name__)

Content = TypeVar("Content")

# Cameras and editors write more than Pillow's 1 MiB of text or colour profile into a valid PNG.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Pillow warns from 89 megapixels on and refuses 179, on opening and for some types on decoding too;
# here every picture is checked against a limit that users can set.
Image.MAX_IMAGE_PIXELS = None

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI",
    "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names of the types that are read: pictures made of pixels. Others run programs (EPS runs
Ghostscript), reach for other files, or are decoded before their size is known (ICO), and a
stranger's folder may hold them."""

HEIC = {".heic", ".heif", ".hif"}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_RAW = {
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".mrw", ".nef", ".nrw", ".orf",
    ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip
FILMS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
"""Endings of films, which are no pictures: only translation takes them, where they are named."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


ARRAYS = ".npy"
"""Ending of NumPy's files."""


def known_endings(kinds: Collection[str] = FORMATS) -> set[str]:
    """Return the endings of the types that are read, such as .png; of some of `FORMATS`, or all."""
    read = set(_installed()) & set(kinds)
    of_pillow = {ending for ending, kind in Image.registered_extensions().items() if kind in read}
    return of_pillow | {ARRAYS}


@lru_cache(maxsize=1)
def _installed():
    """Return those of `FORMATS` that can be read here."""
    Image.init()
    with suppress(ImportError):  # the extra [heif]
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def find_images(folder) -> list[Path]:
    """List all files below a folder that are named like a readable type, sorted by path.

    Links are followed, to each folder once; those that lead nowhere are listed. Hidden files and
    folders are passed over. What else is left out is logged: other files by their endings, and
    folders that cannot be read.

    Raises:
        OSError: the folder itself cannot be read.
    """
    folder = Path(folder)
    os.scandir(folder).close()  # `os.walk` would only log it
    known, found, others = known_endings(), [], Counter[str]()
    seen = set()
    for place, folders, names in os.walk(folder, onerror=_warn_unreadable, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to where it came from
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            ending = os.path.splitext(name)[1].lower()
            if ending in known:
                found.append(Path(place, name))
            else:
                others[ending or "without an ending"] += 1
    if others:
        kinds = ", ".join(f"{ending} {count}" for ending, count in others.most_common(8))
        advice = "; pip install pillow-heif reads HEIC files" if HEIC & set(others) else ""
        advice += "; raw files must be developed first" if _RAW & set(others) else ""
        films = "; films are translated where they are named themselves"
        advice += films if FILMS & set(others) else ""
        count = sum(others.values())
        files = "file" if count == 1 else "files"
        log.info("left out %d %s of other types in %s (%s)%s", count, files, folder, kinds, advice)
    return sorted(found)


def _warn_unreadable(error):
    log.warning("left out %s: %s", shown(error.filename), error.strerror)


def file_size(path) -> int:
    """Return the size in bytes of a regular file.

    Raises:
        OSError: there is none, or something else, such as a pipe.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found.st_size


def open_image(path, channels: int = 3) -> Image.Image | ArrayFile:
    """Open a file as a Pillow image that is decoded when it is first used.

    What Pillow has no image for becomes an `ArrayFile`: `.npy`, and with tifffile installed TIFF
    of any number and kind of bands. Of any size: whoever decodes it checks that, by
    `check_megapixels`.

    Args:
        path: the file.
        channels: number of bands that are wanted.

    Raises:
        OSError: it cannot be read, or is no picture, and what it is instead; Pillow adds exceptions
            of its own.
    """
    file_size(path)  # a pipe would be waited for
    ending = Path(path).suffix.lower()
    if ending in _RAW:  # many look like TIFF files, and hold a small preview
        raise OSError("a camera's raw file; develop it to TIFF, PNG or JPEG first")
    if ending == ARRAYS:
        return open_npy(path)
    try:
        image = Image.open(path, formats=_installed())
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            tiff = file.read(4) in _TIFF_STARTS
        if tiff and (opened := open_tiff(path)):
            return opened
        raise OSError(_described(path)) from None
    if _is_for_tifffile(image, channels):
        with suppress(OSError):
            if opened := open_tiff(path):
                image.close()
                return opened
    return image


def _is_for_tifffile(image, channels):
    """Return whether Pillow drops bits of a TIFF file, or takes 16 bits with a sign for 32."""
    if image.format != "TIFF":
        return False
    if image.mode == "I":
        return True
    bands = image.tag_v2.get(277, 1)
    return has_deep_colors(image) and bands == max(channels, 3)  # with transparency it takes 8


def is_deep(image: Image.Image) -> bool:
    """Return whether an image of Pillow's holds one value of more than 8 bits for each pixel."""
    return image.mode.startswith(("I", "F"))


def has_deep_colors(image: Image.Image) -> bool:
    """Return whether Pillow will drop bits of each colour: it has no mode for more than 8.

    Args:
        image: as it was opened, not decoded yet.
    """
    if is_deep(image):  # which it keeps
        return False
    for codec, _, _, args in getattr(image, "tile", ()):
        first, *rest = args if isinstance(args, tuple) else (args,)
        if ";16" in str(first) or ";12" in str(first) or (codec == "ppm" and rest[0] > 255):
            return True
    return False


class _HasSize(Protocol):
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def check_megapixels(image: _HasSize, most: float, key: str) -> None:
    """Raise OSError for a picture of more than `most` million pixels, which is what `key` says.

    Args:
        image: as it was opened.
        most: 0 takes all.
        key: name of the setting.
    """
    if 0 < most < image.width * image.height / 1e6:
        raise OSError(f"{image.width}x{image.height} pixels, more than {key} {most:g}")


def _described(path):
    """Say what a file is that is not read."""
    with open(path, "rb") as file:
        head = file.read(16)
        if not head:
            return "an empty file"
        if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and "HEIF" not in _installed():
            return "a HEIC picture; pip install pillow-heif reads it"
        if head.startswith(_TIFF_STARTS):
            try:
                return _described_tiff(file, head)
            except Exception:  # whatever a damaged directory leads to
                return "a damaged TIFF file"
    return "not an image, or damaged"


def _described_tiff(file, head):
    big = head[2:3] == b"+" or head[3:4] == b"+"
    tags = ImageFileDirectory_v2(head if big else head[:8])
    file.seek(tags.next)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags that nobody asks for
        tags.load(file)
    bits, form = (np.ravel(tags.get(tag, 1))[0] for tag in (258, 339))
    bands = tags.get(277, 1)
    if not {256, 257} <= set(tags):
        return "a damaged TIFF file"
    kind = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}.get(form, "")
    return (
        f"a TIFF file of {bands} {kind}{'band' if bands == 1 else 'bands'} of {bits} bits "
        f"(compression {tags.get(259, 1)}), which Pillow does not read; pip install tifffile does"
    )


@contextmanager
def pillow_errors() -> Iterator[None]:
    """Turn whatever Pillow raises over a broken file (SyntaxError, TypeError, ...) into OSError."""
    try:
        yield
    except OSError as error:
        if str(error).startswith("decoder error"):  # a number from libtiff
            raise OSError("damaged, or compressed in a way that Pillow does not read") from error
        if "truncated" in str(error).lower():
            raise OSError("damaged or cut off: its picture is truncated") from error
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def twice(read: Callable[..., Content], *arguments) -> Content:
    """Read a file, and once more if that fails: a network's disk may stumble for a moment."""
    try:
        return read(*arguments)
    except OSError:
        return read(*arguments)
