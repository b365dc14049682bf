"""Open a picture with all that belongs to it, and save another with the same."""

import io
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cyclegan_ms.data.images import convert_image, open_image, pillow_errors
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
    """A picture with the rest of its file's content."""

    image: Image.Image
    """upright, 8-bit RGB or gray, without alpha"""
    alpha: Image.Image | None = None
    """8-bit transparency of the same size"""
    belongings: dict = field(default_factory=dict)
    """EXIF (without the rotation, which is applied) and ICC profile, as Pillow saves them"""
    notes: list[str] = field(default_factory=list)
    """what was changed in opening it, in words"""


def open_picture(path, channels: int = 3, max_megapixels: float = 0) -> Picture:
    """Read a picture from a file.

    Args:
        path: any file that Pillow reads.
        channels: 3 for RGB, 1 for gray.
        max_megapixels: refuse larger pictures before decoding them; 0 takes all.

    Raises:
        OSError: it cannot be read or decoded, or is too large.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked instead
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("not a regular file")
        with pillow_errors(), open_image(path) as file:
            megapixels = file.width * file.height / 1e6
            if 0 < max_megapixels < megapixels:
                raise OSError(
                    f"{file.width}x{file.height} pixels, more than --max_megapixels "
                    f"{max_megapixels:g}"
                )
            file.load()
            picture = _unpacked(file, channels)
            frames = _frames(file)
    except UnidentifiedImageError as error:
        raise OSError("not an image, or damaged") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if frames != 1:
        picture.notes.append(f"the first of {frames or 'several'} frames")
    return picture


def _unpacked(file, channels):
    notes = []
    if file.mode.startswith(("I", "F")):
        notes.append("reduced to 8 bits")
    belongings = {}
    upright = file
    try:
        exif = _exif(file)
        upright = ImageOps.exif_transpose(file)
        if exif:
            belongings["exif"] = exif
        elif len(file.info.get("exif", b"")) > 6 and not len(file.getexif()):
            notes.append("its EXIF data is damaged and left out")
    except Exception:  # whatever stands in it
        notes.append("its EXIF data is damaged and left out")
    image, alpha = split_alpha(upright, channels)
    if profile := file.info.get("icc_profile"):
        belongings["icc_profile"] = profile
    return Picture(image, alpha, belongings, notes)


def _frames(file):
    try:
        return getattr(file, "n_frames", 1)
    except Exception:  # a later frame is damaged: nobody knows how many there are
        return None


# What a TIFF file says of the picture; its other tags say how the file is laid out.
_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


def _exif(file):
    """Return EXIF as bytes, without the rotation, which is applied; empty if there is none."""
    exif = file.getexif()
    if file.format == "TIFF":
        kept = Image.Exif()
        for tag in _DESCRIPTIVE:
            if tag in exif:
                kept[tag] = exif[tag]
        for block in (_EXIF_IFD, _GPS_IFD):
            if values := exif.get_ifd(block):
                kept.get_ifd(block).update(values)
                kept[block] = dict(values)
        exif = kept
    else:
        exif.get_ifd(_EXIF_IFD)  # read now: what is never looked at may get lost
    rotation = exif.pop(0x0112, None)
    data = exif.tobytes() if len(exif) else b""
    if rotation is not None and file.format != "TIFF":
        exif[0x0112] = rotation  # for `exif_transpose`
    return data


def split_alpha(image: Image.Image, channels: int = 3) -> tuple[Image.Image, Image.Image | None]:
    """Split any Pillow image into 8-bit RGB (or gray, for `channels` 1) and transparency, or None.

    Fully transparent pixels become white; others keep their colour.
    """
    if not image.has_transparency_data:
        return convert_image(image, channels), None
    if image.mode.startswith(("I", "F")):  # one value of many bits that cannot be seen
        hidden = np.asarray(image) == image.info["transparency"]
        alpha = Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
        return convert_image(image, channels), alpha
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    white = Image.new("RGB", image.size, "white")
    colors = Image.composite(image.convert("RGB"), white, alpha.point(lambda value: value and 255))
    return convert_image(colors, channels), alpha


def save_picture(path, image: Image.Image, picture: Picture | None = None, quality: int = 95):
    """Write an image, completely or not at all, of the type that the name's ending says.

    Args:
        path: the file.
        image: RGB or gray, with or without alpha; laid on white if the type has no alpha.
        picture: the picture whose EXIF data and colour profile to keep, if any.
        quality: quality of JPEG and WebP, 1 to 100.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    belongings = dict(picture.belongings) if picture and kind != ".bmp" else {}
    profile = belongings.get("icc_profile")
    if (
        picture
        and profile
        and profile[16:20] != (b"GRAY" if image.mode in ("L", "LA") else b"RGB ")
    ):
        del belongings["icc_profile"]
        picture.notes.append("its colour profile, which is for another colour space, is left out")
    if kind in _WITHOUT_ALPHA and image.mode in ("RGBA", "LA"):
        mode = image.mode[:-1]
        flat = Image.new(mode, image.size, "white")
        flat.paste(image.convert(mode), mask=image.getchannel("A"))
        image = flat
    if kind in (".jpg", ".jpeg", ".webp"):
        belongings["quality"] = quality
    if kind in (".jpg", ".jpeg") and quality >= 95:
        belongings["subsampling"] = 0  # colours at full resolution
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            try:
                content = _encoded(image, kind, belongings)
            except ValueError:  # JPEG takes no more than 64 kB of EXIF
                if picture is None or "exif" not in belongings:
                    raise
                del belongings["exif"]
                content = _encoded(image, kind, belongings)
                picture.notes.append("its EXIF data is too long and left out")
            temporary.write_bytes(content)
    except OSError:
        raise
    except Exception as error:  # such as a size beyond what the type can hold
        raise OSError(f"cannot be written as {kind[1:]}: {error}") from error


def _encoded(image, kind, belongings):
    """Encode in memory first: Pillow's JPEG encoder does not notice a full disk."""
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[kind], **belongings)
    return content.getbuffer()


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
