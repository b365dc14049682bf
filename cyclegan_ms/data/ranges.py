"""What black and white are in pictures of more than 8 bits: one range for all of a folder."""

import logging
import math
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["BYTES", "Range", "range_of_type", "usual_range"]

log = logging.getLogger(__name__)

_WHITES = (1, 255, 1023, 4095, 16383, 65535)
"""Greatest values of 1, 8, 10, 12, 14 and 16 bits."""


@dataclass(frozen=True)
class Range:
    """The values that become -1 and 1.

    Raises:
        ValueError: they are not finite, or the first is not below the second.
    """

    low: float
    high: float

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"[{self.low:g}, {self.high:g}] is no range of values")

    def __str__(self):
        return f"[{self.low:g}, {self.high:g}]"

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Map values to float32 in [-1, 1].

        Those beyond the range, infinite ones too, become its nearer end, which is said once for a
        range; what is no number (NaN) becomes its lower end.
        """
        values = np.nan_to_num(np.asarray(values, np.float64), nan=self.low, posinf=np.inf)
        inside = np.clip(values, self.low, self.high)
        if not np.array_equal(inside, values):
            _say_clipped(self)
        return ((inside - self.low) * (2 / (self.high - self.low)) - 1).astype(np.float32)

    def from_unit(self, pixels: np.ndarray, dtype) -> np.ndarray:
        """Map [-1, 1] back to values of a type: whole ones are rounded, all are kept inside."""
        dtype = np.dtype(dtype)
        share = (np.asarray(pixels, np.float64) + 1) / 2
        values = np.clip(self.low + share * (self.high - self.low), self.low, self.high)
        if dtype.kind not in "iu":
            return values.astype(dtype)
        ends = np.iinfo(dtype)
        return np.clip(values.round(), ends.min, ends.max).astype(dtype)

    def holds(self, other: "Range") -> bool:
        """Return whether all of another range lies in this one."""
        return self.low <= other.low and other.high <= self.high


BYTES = Range(0, 255)
"""The range of 8-bit pictures, whatever others there are."""


def range_of_type(dtype) -> Range | None:
    """Return the range of bytes and of booleans, which is always the same; None for the others."""
    return {np.dtype(np.uint8): BYTES, np.dtype(bool): Range(0, 1)}.get(np.dtype(dtype))


@cache
def _say_clipped(value_range):
    log.warning("some values lie beyond %s and are clipped to it", value_range)


def usual_range(lowest: float, highest: float, whole: bool) -> Range:
    """Return the range of pictures whose values reach from `lowest` to `highest`.

    Without negative values it begins at 0 and ends at the greatest value of 1, 8, 10, 12, 14 or 16
    bits that none exceeds: 12 bits in files of 16 are told so. Larger values, and fractions beyond
    255, end it themselves. With negative values, as of Hounsfield units, it is what they reach.

    Args:
        lowest: least finite value.
        highest: greatest finite value.
        whole: whether the values are whole numbers.
    """
    if lowest < 0:
        return Range(lowest, max(highest, lowest + 1, lowest * (1 - 1e-6)))
    whites = _WHITES if whole else _WHITES[:2]
    return Range(0, next((float(white) for white in whites if highest <= white), highest))
