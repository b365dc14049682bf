"""Pictures to arrays and back: what is black and white in them, and how they become 8 bits."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cyclegan_ms.data.formats import (
    check_megapixels,
    known_endings,
    open_image,
    pillow_errors,
)

__all__ = [
    "DeepPictures",
    "at_least",
    "convert_image",
    "cut",
    "fitted",
    "from_chw",
    "is_deep",
    "read_image",
    "resized_chw",
    "to_chw",
    "white_of",
]

log = logging.getLogger(__name__)


def read_image(
    path,
    channels: int = 3,
    white: float | None = None,
    side: int | None = None,
    max_megapixels: float = 0,
) -> Image.Image:
    """Read a file as a viewer would show it: 8-bit RGB, or gray for `channels=1`.

    Applies EXIF rotation, lays transparency on white, scales pictures of more bits to 8, and takes
    the first frame of an animation.

    A JPEG file that is to be shrunk is decoded at a half, a quarter or an eighth of its size, never
    with a side below 2 * `side`. Once resized to 286 pixels, pictures of 12 megapixels (drawn: a
    1/f spectrum, hard edges, noise) then differ by 0.2 of 255 levels on average, by 4 at most; a
    photograph with saturated red beside black by 0.5, with 99 % of values within 5: their colour,
    which JPEG stores at half the size, is no longer enlarged first. Sizes that no 8 divides are
    stretched by less than half a pixel of the square.

    Args:
        path: the file.
        channels: 3 or 1.
        white: as for `white_of`.
        side: length in pixels that the shorter side, or both, will be resized to; None decodes the
            picture at its full size.
        max_megapixels: refuse larger pictures before decoding them; 0 takes all.

    Raises:
        OSError: the file cannot be read or decoded, or the picture is too large.
    """
    with pillow_errors(), open_image(path) as image:
        check_megapixels(image, max_megapixels, "data.max_megapixels")
        if side:
            image.draft(None, (2 * side, 2 * side))
        image.load()
        white = white_of(image, white)
        return convert_image(ImageOps.exif_transpose(image), channels, white)


def convert_image(image: Image.Image, channels: int = 3, white: float | None = None) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB (`channels=3`) or gray (1), as `read_image` does.

    Args:
        image: any.
        channels: 3 or 1.
        white: the value that becomes 255, if values have more than 8 bits; None finds it in them.
    """
    if is_deep(image):
        white = white or white_of(image)
        values = np.nan_to_num(np.asarray(image, np.float64) * (255 / white))
        image = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB" if channels == 3 else "L")


# ------------------------------------------------------------------ more than 8 bits


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture holds one value of more than 8 bits for each pixel."""
    return image.mode.startswith(("I", "F"))


def _is_wide(image):
    """Return whether its type does not say what is white: whole numbers of 32 bits, and floats."""
    # Some releases of Pillow open PNG files of 16 bits as "I", and scale every deep PPM to 16 bits.
    return image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM"))


def white_of(image: Image.Image, wide: float | None = None) -> float:
    """Return the value that is white in a deep picture; black is 0.

    Args:
        image: a Pillow image, as it was opened.
        wide: what is white in pictures of 32 bits; None takes the smallest of 1, 255 and 65535
            that no value exceeds, or else the greatest value.
    """
    if not is_deep(image):
        return 255.0
    if not _is_wide(image):
        return 65535.0
    return wide or _usual_white(_brightest(image))


def _brightest(image):
    values = np.asarray(image)
    return float(values[np.isfinite(values)].max(initial=0))


def _usual_white(brightest):
    return next((float(white) for white in (1, 255, 65535) if brightest <= white), brightest)


class DeepPictures:
    """The pictures of more than 8 bits of one folder: what is white is the same in all of them.

    Args:
        max_megapixels: pass over larger pictures; 0 takes all.
    """

    SAMPLE = 20
    """16-bit pictures looked at for a range that is hardly used."""
    MOST = 200
    """Files of one ending that `look` opens."""
    KINDS = ("JPEG2000", "PNG", "PPM", "TIFF")
    """Types that can hold more than 8 bits, of those that are read."""

    def __init__(self, max_megapixels: float = 0):
        self.max_megapixels = max_megapixels
        self.wide: list[Path] = []
        self.sixteen: list[Path] = []

    def note(self, path, image: Image.Image) -> None:
        """Note a picture of the folder, just opened."""
        if is_deep(image):
            (self.wide if _is_wide(image) else self.sixteen).append(Path(path))

    def look(self, paths: Sequence[Path]) -> None:
        """Open files of a folder and note them: of each ending up to `MOST`, spread over it.

        Only endings of types that can hold more than 8 bits count. Broken files are passed over.
        """
        groups: dict[str, list[Path]] = {ending: [] for ending in known_endings(self.KINDS)}
        for path in paths:
            if (ending := path.suffix.lower()) in groups:
                groups[ending].append(path)
        for group in groups.values():
            for path in group[:: -(-len(group) // self.MOST) or 1]:
                with suppress(OSError, MemoryError), pillow_errors(), open_image(path) as image:
                    self.note(path, image)

    def settle(self, folder) -> float | None:
        """Return what is white in the pictures of 32 bits, as `white_of` takes it; None: no such.

        Says so, and warns if pictures of 16 bits are nearly black.
        """
        every = -(-len(self.sixteen) // self.SAMPLE) or 1
        reached = self._brightest(self.sixteen[::every])
        if self.sixteen and 0 < reached < 65535 / 8:
            log.warning(
                "%s: its pictures of 16 bits reach %d of 65535 and come out nearly black; "
                "scale their values to the whole range first", folder, reached,
            )  # fmt: skip
        if not self.wide:
            return None
        white = _usual_white(self._brightest(self.wide))
        log.info(
            "%s: in its pictures of 32 bits (%d looked at) 0 is black and %g white",
            folder, len(self.wide), white,
        )  # fmt: skip
        return white

    def _brightest(self, paths):
        brightest = 0.0
        for path in paths:
            try:
                with pillow_errors(), open_image(path) as image:
                    check_megapixels(image, self.max_megapixels, "")
                    brightest = max(brightest, _brightest(image))
            except (OSError, MemoryError):  # said when it is its turn
                continue
        return brightest


# ------------------------------------------------------------------ shapes


def fitted(image: Image.Image, side: int, preprocess: str) -> Image.Image:
    """Resize a picture as `data.preprocess` says, before it is cut.

    Args:
        image: RGB or gray.
        side: side of the square, or length of the shorter side, in pixels.
        preprocess: `resize_and_crop` squeezes to a square, `scale_and_crop` keeps the shape (see
            `LONGEST`), `crop` the size.
    """
    if preprocess == "crop":
        return image
    width, height = image.size
    if preprocess == "resize_and_crop":
        width = height = side
    else:
        shorter = min(width, height)
        if max(width, height) > LONGEST * shorter:
            image = _middle(image, LONGEST * shorter)
            width, height = image.size
        width, height = (round(length * side / shorter) for length in (width, height))
    return image.resize((width, height), Image.Resampling.BICUBIC)


LONGEST = 20
"""Of a strip that is longer than so many times its width, the middle is scaled: a strip of a few
pixels' width would fill the memory."""


def _middle(image, longest):
    width, height = (min(length, longest) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def cut(image: Image.Image, side: int, choose: Callable[[int], int]) -> np.ndarray:
    """Cut a square out of a picture, mirrored at its edges where it is smaller.

    Args:
        image: RGB or gray.
        side: of the square, in pixels.
        choose: takes a number n and gives one from 0 to n: the place along an axis, vertical first.

    Returns (C, side, side) in [-1, 1].
    """
    top, left = (choose(max(0, length - side)) for length in (image.height, image.width))
    if min(image.size) < side:
        return at_least(to_chw(image), side)[:, top : top + side, left : left + side]
    return to_chw(image.crop((left, top, left + side, top + side)))


def at_least(pixels: np.ndarray, side: int) -> np.ndarray:
    """Mirror (C, H, W) at its edges, as often as it takes, until no side is shorter than `side`."""
    missing = [max(0, side - length) for length in pixels.shape[1:]]
    return np.pad(pixels, [(0, 0), *((m // 2, m - m // 2) for m in missing)], "symmetric")


# ------------------------------------------------------------------ arrays


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
