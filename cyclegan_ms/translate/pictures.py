"""Open a picture with all that belongs to it, and save another with the same and of its depth."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclegan_ms.data.formats import (
    ARRAYS,
    check_megapixels,
    has_deep_colors,
    open_image,
    pillow_errors,
)
from cyclegan_ms.data.images import (
    AnyImage,
    as_bands,
    convert_image,
    deep_values,
    from_chw,
    range_of,
    size_of,
    to_chw,
    unit_bands,
)
from cyclegan_ms.data.ranges import Range, range_of_type
from cyclegan_ms.files import atomic_path
from cyclegan_ms.translate.belongings import (
    Belongings,
    array_belongings,
    read_belongings,
    save_options,
)
from cyclegan_ms.translate.depth import EIGHT_BITS, Depth, depth_for, stored, write_tiff

__all__ = [
    "WRITABLE",
    "Picture",
    "deep_picture",
    "in_a_row",
    "open_picture",
    "save_picture",
    "split_alpha",
    "with_alpha",
]

WRITABLE = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ARRAYS}
"""Endings that results can keep."""

_WITHOUT_ALPHA = {".jpg", ".jpeg", ".bmp"}


@dataclass
class Picture:
    """A picture with the rest of its file's content."""

    image: Image.Image | np.ndarray
    """upright: 8-bit RGB or gray, without alpha, or deep, (C, H, W) in [-1, 1]"""
    alpha: Image.Image | None = None
    """8-bit transparency of the same size"""
    belongings: Belongings = field(default_factory=Belongings)
    """what else its file holds"""
    notes: list[str] = field(default_factory=list)
    """what was changed in opening it, in words"""
    depth: Depth | None = None
    """how results are stored; None for 8 bits"""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return size_of(self.image)


def open_picture(
    path,
    channels: int = 3,
    max_megapixels: float = 0,
    source: Range | None = None,
    target: Range | None = None,
) -> Picture:
    """Read a picture from a file.

    Args:
        path: any file that `open_image` takes.
        channels: 3 for RGB, 1 for gray, or as many as it has bands.
        max_megapixels: refuse larger pictures before decoding them; 0 takes all.
        source: what -1 and 1 stand for in pictures of more than 8 bits; None finds it in this one.
        target: the same of results; None takes that of the source.

    Raises:
        OSError: it cannot be read or decoded, is too large, or has other bands.
    """
    with pillow_errors(), open_image(path, channels) as file:
        check_megapixels(file, max_megapixels, "--max_megapixels")
        reduced = isinstance(file, Image.Image) and has_deep_colors(file)
        if isinstance(file, Image.Image):
            file.load()
            upright, belongings, notes = read_belongings(file)
            frames = _frames(file)
        else:
            belongings, notes = array_belongings(file)
            frames = file.pages
        values = deep_values(file, channels)
        if values is None:
            image, alpha = split_alpha(upright, channels)
            picture = Picture(image, alpha, belongings, notes)
            if file.mode == "CMYK":
                notes.append("its colours for print became RGB")
        else:
            picture = deep_picture(values, channels, source, target)
            picture.belongings, picture.notes = belongings, notes
            hidden = belongings.transparent
            if hidden is not None:  # no file that Pillow writes has both
                picture.alpha = Image.fromarray(np.uint8(255) * (values[..., 0] != hidden))
                picture.image, picture.depth = from_chw(to_chw(picture.image)), None
                reduced = True
    if reduced:
        notes.append("reduced to 8 bits")
    if frames != 1:
        notes.append(f"the first of {frames or 'several'} frames")
    return picture


def deep_picture(
    values: np.ndarray, channels: int, source: Range | None = None, target: Range | None = None
) -> Picture:
    """Return a picture of values (H, W, C); the rest is as for `open_picture`.

    Raises:
        OSError: it has other bands.
    """
    source = range_of(values, source)
    if range_of_type(values.dtype):
        target = None
    depth = depth_for(values.dtype, target or source)
    return Picture(unit_bands(values, channels, source), depth=depth)


def _frames(file):
    try:
        return getattr(file, "n_frames", 1)
    except Exception:  # a later frame is damaged: nobody knows how many there are
        return None


def split_alpha(image: Image.Image, channels: int = 3) -> tuple[Image.Image, Image.Image | None]:
    """Split an 8-bit image into RGB (or gray, for `channels` 1) and transparency, or None.

    Fully transparent pixels become white; others keep their colour.

    Raises:
        OSError: `channels` is another number.
    """
    if not image.has_transparency_data:
        return convert_image(image, channels), None
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    paper = Image.new("RGB", image.size, "white")
    colors = Image.composite(image.convert("RGB"), paper, alpha.point(lambda value: value and 255))
    return convert_image(colors, channels), alpha


def save_picture(
    path, image: Image.Image | np.ndarray, picture: Picture | None = None, quality: int = 95
) -> None:
    """Write an image, completely or not at all, of the type that the name's ending says.

    Args:
        path: the file.
        image: RGB or gray, with or without alpha, which is laid on white if the type has none; or
            (C, H, W) in [-1, 1], stored with the picture's depth as far as the type can.
        picture: the picture whose belongings to keep, if any; what they lose is added to its
            notes.
        quality: quality of JPEG and WebP, 1 to 100.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    picture = picture or Picture(image)
    if isinstance(image, np.ndarray):
        image, note = stored(image, picture.depth or EIGHT_BITS, kind)
        _note(picture, [note] if note else [])
    elif kind == ARRAYS:
        image = np.asarray(image)
    try:
        if isinstance(image, np.ndarray):
            content = _array_file(image, kind, picture)
        else:
            content = _image_file(image, kind, picture, quality)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError:
        raise
    except Exception as error:  # such as a size beyond what the type can hold
        raise OSError(f"cannot be written as {kind[1:]}: {error}") from error


def _note(picture, notes):
    picture.notes += [note for note in notes if note not in picture.notes]


def _array_file(values, kind, picture):
    """Return the file of values (H, W) or (H, W, C)."""
    if kind == ARRAYS:
        file = io.BytesIO()
        np.save(file, values)
        return file.getvalue()
    content, notes = write_tiff(values, picture.belongings)
    _note(picture, notes)
    return content


def _image_file(image, kind, picture, quality):
    """Return the file of an image of Pillow's."""
    if kind in _WITHOUT_ALPHA and image.mode in ("RGBA", "LA"):
        mode = image.mode[:-1]
        flat = Image.new(mode, image.size, "white")
        flat.paste(image.convert(mode), mask=image.getchannel("A"))
        image = flat
    options: dict[str, Any]
    options, notes = save_options(picture.belongings, kind, image)
    _note(picture, notes)
    if kind in (".jpg", ".jpeg", ".webp"):
        options["quality"] = quality
    if kind in (".jpg", ".jpeg") and quality >= 95:
        options["subsampling"] = 0  # colours at full resolution
    file = io.BytesIO()  # Pillow's JPEG encoder does not notice a full disk
    image.save(file, Image.registered_extensions()[kind], **options)
    return file.getbuffer()


def with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Return the image with a transparency channel, if there is one."""
    if alpha is None:
        return image
    image = image.copy()
    image.putalpha(alpha)
    return image


def in_a_row(images: list[AnyImage]) -> AnyImage:
    """Put images of one size side by side: (C, H, W) in [-1, 1] if one of them is deep."""
    flat = [image for image in images if isinstance(image, Image.Image)]
    if len(flat) < len(images):
        arrays = [to_chw(image) for image in images]
        most = max(map(len, arrays))
        return np.concatenate([as_bands(array, most) for array in arrays], axis=2)
    mode = max((image.mode for image in flat), key=["L", "LA", "RGB", "RGBA"].index)
    width, height = flat[0].size
    row = Image.new(mode, (width * len(flat), height))
    for index, image in enumerate(flat):
        row.paste(image.convert(mode), (index * width, 0))
    return row
