"""Pictures to arrays and back: which files are pictures, how they are read, and their values."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from cyclegan_ms.files import shown

__all__ = [
    "convert_image",
    "find_images",
    "from_chw",
    "known_endings",
    "open_image",
    "pillow_errors",
    "read_image",
    "resized_chw",
    "to_chw",
]


log = logging.getLogger(__name__)

# Cameras and editors write more than Pillow's 1 MiB of text or colour profile into a valid PNG.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names of the types that are read: pictures made of pixels. Others run programs (EPS runs
Ghostscript) or reach for other files, and a stranger's folder may hold them."""


def known_endings() -> set[str]:
    """Return the endings of the types that are read, such as .png."""
    kinds = _installed()
    return {ending for ending, kind in Image.registered_extensions().items() if kind in kinds}


@lru_cache(maxsize=1)
def _installed():
    """Return those of `FORMATS` that this Pillow can read."""
    Image.init()
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
        advice = "; HEIC and RAW files must be converted first" if _UNREAD & set(others) else ""
        count = sum(others.values())
        files = "file" if count == 1 else "files"
        log.info("left out %d %s of other types in %s (%s)%s", count, files, folder, kinds, advice)
    return sorted(found)


_UNREAD = {".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}


def _warn_unreadable(error):
    log.warning("left out %s: %s", shown(error.filename), error.strerror)


def open_image(path) -> Image.Image:
    """Open a file as a Pillow image that is decoded when it is first used.

    Raises:
        OSError: it cannot be read, or is not a picture; Pillow adds exceptions of its own.
    """
    return Image.open(path, formats=_installed())


def read_image(path, channels: int = 3) -> Image.Image:
    """Read a file as a viewer would show it: 8-bit RGB, or gray for `channels=1`.

    Applies EXIF rotation, lays transparency on white, scales 16-bit and floating-point grays to 8
    bits, and takes the first frame of an animation.

    Raises:
        OSError: the file cannot be read or decoded.
    """
    with pillow_errors(), open_image(path) as image:
        image.load()
        return convert_image(ImageOps.exif_transpose(image), channels)


@contextmanager
def pillow_errors() -> Iterator[None]:
    """Turn whatever Pillow raises over a broken file (SyntaxError, TypeError, ...) into OSError."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def convert_image(image: Image.Image, channels: int = 3) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB (`channels=3`) or gray (1), as `read_image` does."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        # 16 bits, which Pillow would clip at 255; "I" is how some of its releases open 16-bit PNG.
        values = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255)
        image = Image.fromarray(values.round().astype(np.uint8))
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        values = values * 255 if values.max(initial=0) <= 1 else values
        image = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB" if channels == 3 else "L")


def to_chw(image: Image.Image) -> np.ndarray:
    """Turn an RGB or gray image into float32 (C, H, W) in [-1, 1]."""
    pixels = np.asarray(image, np.float32)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels / 127.5 - 1)


def from_chw(pixels: np.ndarray) -> Image.Image:
    """Turn float (C, H, W) in [-1, 1] into an image: the inverse of `to_chw`, clipping values."""
    values = np.clip((pixels + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))


def resized_chw(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Resize an RGB or gray image and return it as RGB: float32 (3, height, width) in [-1, 1]."""
    return to_chw(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
