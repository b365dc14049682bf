"""Files of values that Pillow has no picture for: TIFF of any kind, by tifffile, and `.npy`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["ArrayFile", "open_npy", "open_tiff", "with_bands"]


@dataclass
class ArrayFile:
    """A file of values (H, W, C), which are read when they are asked for."""

    width: int
    height: int
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    """gives the values, upright, (H, W) or (H, W, C)"""
    close: Callable[[], None]
    tags: dict[int, Any] = field(default_factory=dict)
    """of a TIFF file, by number"""
    compression: str = "raw"
    """of a TIFF file, in Pillow's words"""
    pages: int = 1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def values(self) -> np.ndarray:
        """Return the values, (H, W, C) in this machine's byte order.

        Raises:
            OSError: they cannot be read.
        """
        return with_bands(self.read())


def with_bands(values: np.ndarray) -> np.ndarray:
    """Return values (H, W) or (H, W, C) as (H, W, C) in this machine's byte order."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values[..., None] if values.ndim == 2 else values


def open_npy(path) -> ArrayFile:
    """Open an array of NumPy, (H, W) or (H, W, C), of numbers.

    Raises:
        OSError: it is something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise OSError("no array of NumPy, or damaged") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size:
        raise OSError(f"an array {getattr(array, 'shape', '')}, not (H, W) or (H, W, C)")
    _check_numbers(array.dtype)
    return ArrayFile(
        array.shape[1], array.shape[0], array.dtype, lambda: np.array(array), lambda: None
    )


def _check_numbers(dtype):
    if dtype is None or np.dtype(dtype).kind not in "buif":
        raise OSError(f"holds {dtype}, not real numbers")


_COMPRESSIONS = {
    1: "raw", 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits", 32946: "tiff_deflate"
}  # fmt: skip


def open_tiff(path) -> ArrayFile | None:
    """Open the first page of a TIFF file of any kind; None where tifffile is not installed.

    Raises:
        OSError: it cannot be read.
    """
    try:
        import tifffile
    except ImportError:
        return None
    try:
        file = tifffile.TiffFile(path)
    except Exception as error:  # whatever a damaged directory leads to
        raise OSError("a damaged TIFF file") from error
    try:
        page = file.pages.first
        _check_numbers(page.dtype)
        _check_codecs(tifffile.TIFF, page)
        tags = {tag.code: tag.value for tag in page.tags.values()}
        turn = int(tags.get(274, 1))
        sides = (page.imagewidth, page.imagelength)
        return ArrayFile(
            *(sides[::-1] if turn > 4 else sides),
            np.dtype(page.dtype),
            lambda: _upright(_read_page(page), turn),
            file.close,
            tags,
            _COMPRESSIONS.get(page.compression, str(page.compression)),
            len(file.pages),
        )
    except BaseException:
        file.close()
        raise


def _check_codecs(known, page):
    try:
        known.DECOMPRESSORS[page.compression], known.UNPREDICTORS[page.predictor]
    except KeyError:
        raise OSError(
            f"a TIFF file compressed by {page.compression.name}; pip install imagecodecs reads it"
        ) from None


def _read_page(page):
    try:
        values = page.asarray()
    except Exception as error:  # whatever a damaged file leads to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(f"its values cannot be read ({reason[:100]})") from error
    if page.axes == "SYX":
        values = values.transpose(1, 2, 0)
    elif page.axes not in ("YX", "YXS"):
        raise OSError(f"a TIFF file of {page.axes} {values.shape}, not of one picture")
    return values


def _upright(values, turn):
    """Turn values (H, W, ...) as the orientation 1 to 8 of TIFF and EXIF says."""
    if turn > 4:
        values = values.swapaxes(0, 1)
    across, down = {2: (-1, 1), 3: (-1, -1), 4: (1, -1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}.get(
        turn, (1, 1)
    )
    return values[::down, ::across]
