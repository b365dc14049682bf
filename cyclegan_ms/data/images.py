"""Pictures to arrays and back: 8-bit Pillow images, and deeper ones as values in [-1, 1].

A *deep* picture has more than 8 bits a value, or bands that Pillow has no image for. It is an array
(C, H, W), float32 in [-1, 1], from the moment it is read: what -1 and 1 stand for is the same for
all of a folder, see `FolderRange`. Everything here takes both.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cyclegan_ms.data.arrays import ArrayFile, with_bands
from cyclegan_ms.data.formats import (
    check_megapixels,
    is_deep,
    known_endings,
    open_image,
    pillow_errors,
)
from cyclegan_ms.data.ranges import Range, range_of_type, usual_range

__all__ = [
    "FolderRange",
    "AnyImage",
    "as_bands",
    "at_least",
    "convert_image",
    "cut",
    "deep_values",
    "fitted",
    "from_chw",
    "range_of",
    "read_image",
    "resized",
    "resized_chw",
    "size_of",
    "to_chw",
    "unit_bands",
    "view_of",
]

log = logging.getLogger(__name__)

AnyImage = Image.Image | np.ndarray


def read_image(
    path,
    channels: int = 3,
    value_range: Range | None = None,
    side: int | None = None,
    max_megapixels: float = 0,
) -> AnyImage:
    """Read a file as a viewer would show it: 8-bit RGB, or gray for `channels=1`; or deep.

    Applies EXIF rotation, lays transparency on white, and takes the first frame of an animation. A
    picture of more than 8 bits keeps them: it becomes an array (`channels`, H, W) in [-1, 1].

    A JPEG file that is to be shrunk is decoded at a half, a quarter or an eighth of its size, never
    with a side below 2 * `side`. Once resized to 286 pixels, pictures of 12 megapixels (drawn: a
    1/f spectrum, hard edges, noise) then differ by 0.2 of 255 levels on average, by 4 at most; a
    photograph with saturated red beside black by 0.5, with 99 % of values within 5: their colour,
    which JPEG stores at half the size, is no longer enlarged first. Sizes that no 8 divides are
    stretched by less than half a pixel of the square.

    Args:
        path: the file.
        channels: 3 for colours, 1 for gray; of any other number, files must have as many bands.
        value_range: what -1 and 1 stand for in deep pictures; None finds it in this one. Bytes have
            `BYTES` in any case.
        side: length in pixels that the shorter side, or both, will be resized to; None decodes the
            picture at its full size.
        max_megapixels: refuse larger pictures before decoding them; 0 takes all.

    Raises:
        OSError: the file cannot be read or decoded, the picture is too large, or has other bands.
    """
    with pillow_errors(), open_image(path, channels) as file:
        check_megapixels(file, max_megapixels, "data.max_megapixels")
        if isinstance(file, Image.Image):
            if side:
                file.draft(None, (2 * side, 2 * side))
            file.load()
        values = deep_values(file, channels)
        if values is not None:
            return unit_bands(values, channels, value_range)
        return convert_image(ImageOps.exif_transpose(file), channels)


def convert_image(image: Image.Image, channels: int = 3) -> Image.Image:
    """Convert any 8-bit image of Pillow's to RGB (`channels=3`) or gray (1), as `read_image` does.

    Raises:
        OSError: `channels` is another number.
    """
    if channels not in (1, 3):
        raise _other_bands(len(image.getbands()), channels)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB" if channels == 3 else "L")


# ------------------------------------------------------------------ more than 8 bits


def deep_values(file: Image.Image | ArrayFile, channels: int = 3) -> np.ndarray | None:
    """Return the values (H, W, C) of a deep picture, upright; None for one of 8 bits.

    Args:
        file: as it was opened, and decoded.
        channels: number of bands that are wanted; one of 8 bits counts as deep where that is the
            number of its bands, and neither 1 nor 3.
    """
    if isinstance(file, ArrayFile):
        return file.values()
    if is_deep(file):
        values = np.asarray(ImageOps.exif_transpose(file))
        # Some releases of Pillow open PNG files of 16 bits as "I", and scale deep PPM to 16 bits.
        if file.mode == "I" and file.format in ("PNG", "PPM"):
            values = values.astype(np.uint16)
        return with_bands(values)
    if channels not in (1, 3) and len(file.getbands()) == channels:
        return np.asarray(ImageOps.exif_transpose(file))
    return None


def unit_bands(values: np.ndarray, channels: int, value_range: Range | None = None) -> np.ndarray:
    """Turn the values (H, W, C) of a deep picture into (`channels`, H, W) in [-1, 1].

    Raises:
        OSError: it has other bands.
    """
    pixels = range_of(values, value_range).to_unit(values)
    return as_bands(np.ascontiguousarray(pixels.transpose(2, 0, 1)), channels)


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in gray (ITU-R BT.601, as Pillow has it)."""


def as_bands(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Turn (C, H, W) into as many channels: gray repeated for colours, their luma for gray.

    Raises:
        OSError: it is of another number of bands.
    """
    bands = len(pixels)
    if bands == channels:
        return pixels
    if (bands, channels) == (1, 3):
        return np.repeat(pixels, 3, 0)
    if (bands, channels) == (3, 1):
        return np.tensordot(_LUMA, pixels, 1)[None]
    raise _other_bands(bands, channels)


def _other_bands(bands, channels):
    return OSError(f"has {bands} {'band' if bands == 1 else 'bands'}, not {channels}")


def range_of(values: np.ndarray, value_range: Range | None = None) -> Range:
    """Return the range of a picture's values: of bytes always the same, else the one given.

    Without one it is found in the values.
    """
    if found := range_of_type(values.dtype) or value_range:
        return found
    lowest, highest = _ends(values)
    return usual_range(lowest, highest, values.dtype.kind in "iu")


def _ends(values):
    """Return the least and the greatest finite value; 0 and 1 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


class FolderRange:
    """Finds what is black and white in the deep pictures of one folder: the same in all of them.

    Args:
        max_megapixels: pass over larger pictures; 0 takes all.
        channels: number of bands that are wanted.
    """

    MOST = 200
    """Files of one ending that `look` opens."""
    KINDS = ("JPEG2000", "PNG", "PPM", "TIFF")
    """Types that can hold more than 8 bits, of those that are read, beside `.npy`."""

    def __init__(self, max_megapixels: float = 0, channels: int = 3):
        self.max_megapixels, self.channels = max_megapixels, channels
        self.lowest, self.highest = np.inf, -np.inf
        self.kinds: dict[str, int] = {}

    def look(self, paths: Sequence[Path], most: int | None = MOST) -> None:
        """Read files of a folder: of each ending up to `most`, spread over it; None reads all.

        Only endings of types that can be deep count. Broken files are passed over: they are told of
        when it is their turn.
        """
        groups: dict[str, list[Path]] = {ending: [] for ending in known_endings(self.KINDS)}
        for path in paths:
            if (ending := path.suffix.lower()) in groups:
                groups[ending].append(path)
        for group in groups.values():
            every = -(-len(group) // most) if most and group else 1
            for path in group[::every]:
                with suppress(OSError, MemoryError):
                    self._look_at(path)

    def _look_at(self, path):
        with pillow_errors(), open_image(path, self.channels) as file:
            self._note(file)

    def _note(self, file):
        if isinstance(file, Image.Image) and not is_deep(file):
            return
        check_megapixels(file, self.max_megapixels, "")
        values = deep_values(file)
        if range_of_type(values.dtype):
            return
        kind = str(values.dtype)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        lowest, highest = _ends(values)
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)

    def settle(self, folder) -> Range | None:
        """Return the range, and say it; None where no deep picture was seen."""
        if not self.kinds:
            return None
        whole = all("int" in kind for kind in self.kinds)
        found = usual_range(float(self.lowest), float(self.highest), whole)
        counts = ", ".join(f"{count} of {kind}" for kind, count in sorted(self.kinds.items()))
        log.info("%s: %s is black to white in deep pictures (looked at %s)", folder, found, counts)
        if len(self.kinds) > 1:
            log.warning("%s: one range for values of several types; one of each would do", folder)
        return found


# ------------------------------------------------------------------ shapes


def size_of(image: AnyImage) -> tuple[int, int]:
    """Return width and height."""
    return image.size if isinstance(image, Image.Image) else (image.shape[2], image.shape[1])


def resized(image: AnyImage, size: tuple[int, int]) -> AnyImage:
    """Resize a picture to a width and height, by Pillow's bicubic filter."""
    if size_of(image) == size:
        return image
    if isinstance(image, Image.Image):
        return image.resize(size, Image.Resampling.BICUBIC)
    bands = (Image.fromarray(band).resize(size, Image.Resampling.BICUBIC) for band in image)
    return np.clip(np.stack([np.asarray(band) for band in bands]), -1, 1)


def _part(image, left, top, width, height):
    if isinstance(image, Image.Image):
        return image.crop((left, top, left + width, top + height))
    return image[:, top : top + height, left : left + width]


def fitted(image: AnyImage, side: int, preprocess: str) -> AnyImage:
    """Resize a picture as `data.preprocess` says, before it is cut.

    Args:
        image: RGB, gray or deep.
        side: side of the square, or length of the shorter side, in pixels.
        preprocess: `resize_and_crop` squeezes to a square, `scale_and_crop` keeps the shape (see
            `LONGEST`), `crop` the size.
    """
    if preprocess == "crop":
        return image
    width, height = size_of(image)
    if preprocess == "resize_and_crop":
        width = height = side
    else:
        shorter = min(width, height)
        if max(width, height) > LONGEST * shorter:
            image = _middle(image, LONGEST * shorter)
            width, height = size_of(image)
        width, height = (round(length * side / shorter) for length in (width, height))
    return resized(image, (width, height))


LONGEST = 20
"""Of a strip that is longer than so many times its width, the middle is scaled: a strip of a few
pixels' width would fill the memory."""


def _middle(image, longest):
    width, height = size_of(image)
    across, down = min(width, longest), min(height, longest)
    return _part(image, (width - across) // 2, (height - down) // 2, across, down)


def cut(image: AnyImage, side: int, choose: Callable[[int], int]) -> np.ndarray:
    """Cut a square out of a picture, mirrored at its edges where it is smaller.

    Args:
        image: RGB, gray or deep.
        side: of the square, in pixels.
        choose: takes a number n and gives one from 0 to n: the place along an axis, vertical first.

    Returns (C, side, side) in [-1, 1].
    """
    width, height = size_of(image)
    top, left = (choose(max(0, length - side)) for length in (height, width))
    if min(width, height) < side:
        return at_least(to_chw(image), side)[:, top : top + side, left : left + side]
    return to_chw(_part(image, left, top, side, side))


def at_least(pixels: np.ndarray, side: int) -> np.ndarray:
    """Mirror (C, H, W) at its edges, as often as it takes, until no side is shorter than `side`."""
    missing = [max(0, side - length) for length in pixels.shape[1:]]
    return np.pad(pixels, [(0, 0), *((m // 2, m - m // 2) for m in missing)], "symmetric")


# ------------------------------------------------------------------ arrays


def to_chw(image: AnyImage) -> np.ndarray:
    """Turn an RGB or gray image into float32 (C, H, W) in [-1, 1]; a deep one is that already."""
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image)
    pixels = np.asarray(image, np.float32)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels / 127.5 - 1)


def from_chw(pixels: np.ndarray) -> Image.Image:
    """Turn float (1 or 3, H, W) in [-1, 1] into an image: the inverse of `to_chw`, clipping."""
    values = np.clip((pixels + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))


def view_of(pixels: np.ndarray) -> Image.Image:
    """Turn float (C, H, W) in [-1, 1] into an 8-bit image to look at, gray or of three bands.

    Of more than three bands it shows the first three, of two the first.
    """
    return from_chw(pixels[: 3 if len(pixels) >= 3 else 1])


def resized_chw(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Resize an RGB or gray image and return it as RGB: float32 (3, height, width) in [-1, 1]."""
    return to_chw(resized(image.convert("RGB"), (width, height)))
