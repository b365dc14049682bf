"""Pictures to arrays and back: which files are pictures, how they are read, and their values."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

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

    Hidden files and folders are left out.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = Path(folder)
    os.scandir(folder).close()  # rglob would find nothing and say nothing
    known = known_endings()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


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
