"""Results of more than 8 bits, or of other bands than gray and RGB: how they are stored."""

import io
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from cyclegan_ms.data.images import from_chw
from cyclegan_ms.data.ranges import BYTES, Range
from cyclegan_ms.translate.belongings import GEO, XMP, Belongings, described

__all__ = ["EIGHT_BITS", "Depth", "depth_for", "stored", "write_tiff"]


@dataclass(frozen=True)
class Depth:
    """How values in [-1, 1] are stored."""

    dtype: np.dtype
    range: Range
    """what -1 and 1 stand for"""

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """Turn (C, H, W) in [-1, 1] into values (H, W, C), (H, W) for one band."""
        values = self.range.from_unit(pixels, self.dtype)
        return values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))


EIGHT_BITS = Depth(np.dtype(np.uint8), BYTES)

_FLOAT = np.dtype(np.float32)


def depth_for(dtype, value_range: Range) -> Depth:
    """Return how results are stored for a picture of a type: as that, if it holds the range.

    Else as whole numbers with a sign, of 16 or 32 bits. Fractions have 32 bits, whatever came in.
    """
    if np.dtype(dtype).kind not in "iu":
        return Depth(_FLOAT, value_range)
    for kind in map(np.dtype, (dtype, np.int16, np.int32)):
        ends = np.iinfo(kind)
        if Range(float(ends.min), float(ends.max)).holds(value_range):
            return Depth(kind, value_range)
    return Depth(_FLOAT, value_range)


def stored(pixels: np.ndarray, depth: Depth, kind: str) -> tuple[Image.Image | np.ndarray, str]:
    """Return what a file of a type holds of (C, H, W) in [-1, 1], and a note on what it cannot.

    An image where Pillow can write it, else values (H, W) or (H, W, C).

    Args:
        pixels: the result.
        depth: how it would be stored at best.
        kind: ending of the file.

    Raises:
        OSError: such a file has no place for so many bands, or tifffile is not installed.
    """
    bands = len(pixels)
    if kind == ".npy":
        return depth.values(pixels), ""
    if kind in (".tif", ".tiff"):
        if depth == EIGHT_BITS and bands in (1, 3):
            return from_chw(pixels), ""
        values = depth.values(pixels)
        if bands == 1 and depth.dtype in (np.uint16, np.int32, np.float32):
            return Image.fromarray(values), ""
        if find_spec("tifffile"):
            return values, ""
        if bands not in (1, 3):
            raise OSError(f"{bands} bands are written with tifffile: pip install tifffile")
        return from_chw(pixels), "reduced to 8 bits; pip install tifffile keeps them"
    if bands not in (1, 3):
        raise OSError(f"{bands} bands cannot be written as {kind[1:]}; --format tif can")
    if depth == EIGHT_BITS:
        return from_chw(pixels), ""
    if kind == ".png" and bands == 1:
        if depth.dtype == np.uint16:
            return Image.fromarray(depth.values(pixels)), ""
        sixteen = Depth(np.dtype(np.uint16), Range(0, 65535))
        note = f"stored as 16 bits, {depth.range} as 0 to 65535; --format tif keeps its values"
        return Image.fromarray(sixteen.values(pixels)), note
    return from_chw(pixels), f"reduced to 8 bits, as a {kind[1:]} file; --format tif keeps more"


def write_tiff(values: np.ndarray, belongings: Belongings) -> tuple[bytes, list[str]]:
    """Return a TIFF file of values (H, W) or (H, W, C), and notes on what it leaves out."""
    import tifffile

    notes: list[str] = []
    options: dict[str, Any] = {}
    names = {"tiff_adobe_deflate": "zlib", "tiff_deflate": "zlib", "raw": None, "": None}
    if belongings.compression not in names:
        notes.append(f"compressed with deflate, not {belongings.compression}")
    options["compression"] = names.get(belongings.compression, "zlib")
    tags, left_out = described(belongings.exif)
    texts = {code: text for code, text in tags.items() if isinstance(text, str)}
    extra: list[tuple] = [(code, 2, 0, text, True) for code, text in texts.items() if code != 270]
    options["description"] = texts.get(270)
    if left_out:
        notes.append("its EXIF data is left out")
    if belongings.xmp:
        extra.append((XMP, 1, len(belongings.xmp), belongings.xmp, True))
    if belongings.geo:
        if values.shape[1::-1] == belongings.size:
            for code, value in belongings.geo.items():
                items = value if isinstance(value, str | tuple) else (value,)
                extra.append((code, GEO[code], 0 if isinstance(items, str) else len(items),
                              items, True))  # fmt: skip
        else:
            notes.append("its geo tags are left out: they are for another size")
    if belongings.dpi:
        options |= {"resolution": belongings.dpi, "resolutionunit": "INCH"}
    if belongings.icc_profile:
        options["iccprofile"] = belongings.icc_profile
    colors = values.ndim == 3 and values.shape[2] == 3
    file = io.BytesIO()
    tifffile.imwrite(
        file, values, photometric="rgb" if colors else "minisblack", planarconfig="contig" if
        values.ndim == 3 else None, extratags=extra, metadata=None, software=False, **options,
    )  # fmt: skip
    return file.getvalue(), notes
