"""Open a picture with all that belongs to it, and save another with the same."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclegan_ms.data.formats import check_megapixels, open_image, pillow_errors
from cyclegan_ms.data.images import convert_image, is_deep, white_of
from cyclegan_ms.files import atomic_path
from cyclegan_ms.translate.belongings import Belongings, read_belongings, save_options

__all__ = [
    "WRITABLE",
    "Picture",
    "from_array",
    "open_picture",
    "save_picture",
    "split_alpha",
    "with_alpha",
]

WRITABLE = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
"""Endings that results can keep."""

_WITHOUT_ALPHA = {".jpg", ".jpeg", ".bmp"}


@dataclass
class Picture:
    """A picture with the rest of its file's content."""

    image: Image.Image
    """upright, 8-bit RGB or gray, without alpha"""
    alpha: Image.Image | None = None
    """8-bit transparency of the same size"""
    belongings: Belongings = field(default_factory=Belongings)
    """what else its file holds"""
    notes: list[str] = field(default_factory=list)
    """what was changed in opening it, in words"""


def open_picture(
    path, channels: int = 3, max_megapixels: float = 0, white: float | None = None
) -> Picture:
    """Read a picture from a file.

    Args:
        path: any file that Pillow reads.
        channels: 3 for RGB, 1 for gray.
        max_megapixels: refuse larger pictures before decoding them; 0 takes all.
        white: what is white in pictures of 32 bits, as for `white_of`.

    Raises:
        OSError: it cannot be read or decoded, or is too large.
    """
    with pillow_errors(), open_image(path) as file:
        check_megapixels(file, max_megapixels, "--max_megapixels")
        reduced = is_deep(file) or _is_deep_color(file)
        file.load()
        upright, belongings, notes = read_belongings(file)
        image, alpha = split_alpha(upright, channels, white_of(file, white))
        frames = _frames(file)
    if reduced:
        notes.append("reduced to 8 bits")
    if frames != 1:
        notes.append(f"the first of {frames or 'several'} frames")
    return Picture(image, alpha, belongings, notes)


def _is_deep_color(file):
    """Return whether Pillow will drop bits of each colour: it has no mode for more than 8."""
    for codec, _, _, args in file.tile:
        first, *rest = args if isinstance(args, tuple) else (args,)
        if ";16" in str(first) or ";12" in str(first) or (codec == "ppm" and rest[0] > 255):
            return True
    return False


def _frames(file):
    try:
        return getattr(file, "n_frames", 1)
    except Exception:  # a later frame is damaged: nobody knows how many there are
        return None


def split_alpha(
    image: Image.Image, channels: int = 3, white: float | None = None
) -> tuple[Image.Image, Image.Image | None]:
    """Split any Pillow image into 8-bit RGB (or gray, for `channels` 1) and transparency, or None.

    Fully transparent pixels become white; others keep their colour. `white` is as for
    `convert_image`.
    """
    if not image.has_transparency_data:
        return convert_image(image, channels, white), None
    if is_deep(image):  # one value of many bits that cannot be seen
        hidden = np.asarray(image) == image.info["transparency"]
        alpha = Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
        return convert_image(image, channels, white), alpha
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    paper = Image.new("RGB", image.size, "white")
    colors = Image.composite(image.convert("RGB"), paper, alpha.point(lambda value: value and 255))
    return convert_image(colors, channels), alpha


def save_picture(path, image: Image.Image, picture: Picture | None = None, quality: int = 95):
    """Write an image, completely or not at all, of the type that the name's ending says.

    Args:
        path: the file.
        image: RGB or gray, with or without alpha; laid on white if the type has no alpha.
        picture: the picture whose belongings to keep, if any; what they lose is added to its
            notes.
        quality: quality of JPEG and WebP, 1 to 100.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind in _WITHOUT_ALPHA and image.mode in ("RGBA", "LA"):
        mode = image.mode[:-1]
        flat = Image.new(mode, image.size, "white")
        flat.paste(image.convert(mode), mask=image.getchannel("A"))
        image = flat
    options: dict[str, Any] = {}
    if picture:
        options, notes = save_options(picture.belongings, kind, image)
        picture.notes += [note for note in notes if note not in picture.notes]
    if kind in (".jpg", ".jpeg", ".webp"):
        options["quality"] = quality
    if kind in (".jpg", ".jpeg") and quality >= 95:
        options["subsampling"] = 0  # colours at full resolution
    content = io.BytesIO()  # Pillow's JPEG encoder does not notice a full disk
    try:
        image.save(content, Image.registered_extensions()[kind], **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError:
        raise
    except Exception as error:  # such as a size beyond what the type can hold
        raise OSError(f"cannot be written as {kind[1:]}: {error}") from error


def with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Return the image with a transparency channel, if there is one."""
    if alpha is None:
        return image
    image = image.copy()
    image.putalpha(alpha)
    return image


def from_array(array: np.ndarray) -> Image.Image:
    """Turn a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) into an image.

    Raises:
        ValueError: another shape or type.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, 0 to 255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise ValueError(
            f"an image is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}; a batch "
            f"has N in front"
        )
    return Image.fromarray(array)
