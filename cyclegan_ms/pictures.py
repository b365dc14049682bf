"""Opening a picture with all that belongs to it, and saving another with the same."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cyclegan_ms.data import convert_image
from cyclegan_ms.files import atomic_path

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
    """What a file holds."""

    image: Image.Image
    """upright, 8-bit RGB or gray, without alpha"""
    alpha: Image.Image | None = None
    """8-bit transparency of the same size"""
    belongings: dict = field(default_factory=dict)
    """EXIF (without the rotation, which is applied) and ICC profile, as Pillow saves them"""
    notes: list[str] = field(default_factory=list)
    """what was changed in opening it, in words"""


def open_picture(path, channels: int = 3, max_megapixels: float = 0) -> Picture:
    """Read a file.

    Args:
        path: any file that Pillow reads.
        channels: 3 for RGB, 1 for gray.
        max_megapixels: refuse larger pictures before decoding them; 0 takes all.

    Raises:
        OSError: it cannot be read or decoded, or is too large.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked instead
    try:
        with Image.open(path) as file:
            megapixels = file.width * file.height / 1e6
            if 0 < max_megapixels < megapixels:
                raise OSError(
                    f"{file.width}x{file.height} pixels, more than --max_megapixels "
                    f"{max_megapixels:g}"
                )
            frames = getattr(file, "n_frames", 1)
            file.load()
            picture = _unpacked(file, channels)
    except UnidentifiedImageError as error:
        raise OSError("not an image, or damaged") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly anything for broken files
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if frames > 1:
        picture.notes.append(f"the first of {frames} frames")
    return picture


def _unpacked(file, channels):
    notes = []
    if file.mode.startswith(("I", "F")):
        notes.append("reduced to 8 bits")
    upright = ImageOps.exif_transpose(file)
    belongings = {}
    exif = upright.getexif()
    exif.pop(0x0112, None)  # the rotation, applied now
    if len(exif):
        belongings["exif"] = exif.tobytes()
    image, alpha = split_alpha(upright, channels)
    profile = file.info.get("icc_profile")
    if profile:
        if profile[16:20] == {"RGB": b"RGB ", "L": b"GRAY"}[image.mode]:
            belongings["icc_profile"] = profile
        else:
            notes.append("its colour profile, which is for another colour space, is left out")
    return Picture(image, alpha, belongings, notes)


def split_alpha(image: Image.Image, channels: int = 3) -> tuple[Image.Image, Image.Image | None]:
    """Any Pillow image to 8-bit RGB (or gray, for `channels` 1) and its transparency, or None.

    What cannot be seen at all is white, what shines through keeps its colour.
    """
    if not image.has_transparency_data:
        return convert_image(image, channels), None
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    white = Image.new("RGB", image.size, "white")
    colors = Image.composite(image.convert("RGB"), white, alpha.point(lambda value: value and 255))
    return convert_image(colors, channels), alpha


def save_picture(path, image: Image.Image, picture: Picture | None = None, quality: int = 95):
    """Write an image, complete or not at all, of the type that the name's ending says.

    Args:
        path: the file.
        image: RGB or gray, with alpha or without; laid on white where the type has no alpha.
        picture: whose belongings to keep, if any.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    belongings = dict(picture.belongings) if picture else {}
    if kind == ".bmp":
        belongings = {}
    if kind in _WITHOUT_ALPHA and image.mode in ("RGBA", "LA"):
        mode = image.mode[:-1]
        flat = Image.new(mode, image.size, "white")
        flat.paste(image.convert(mode), mask=image.getchannel("A"))
        image = flat
    if kind in (".jpg", ".jpeg", ".webp"):
        belongings["quality"] = quality
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            image.save(temporary, **belongings)
    except OSError:
        raise
    except Exception as error:  # such as a size beyond what the type can hold
        raise OSError(f"cannot be written as {kind[1:]}: {error}") from error


def with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """The image with a transparency channel, if there is one."""
    if alpha is None:
        return image
    image = image.copy()
    image.putalpha(alpha)
    return image


def from_array(array: np.ndarray) -> Image.Image:
    """A uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as an image.

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
