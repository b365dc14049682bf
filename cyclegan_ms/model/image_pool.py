"""A buffer of past fakes, so that a discriminator sees more than the newest ones."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

__all__ = ["ImagePool"]


class Image(Protocol):
    """A picture wherever it lies: a tensor stays on its device."""

    def copy(self):
        """Return another one with the same values."""


AnyImage = TypeVar("AnyImage", bound=Image)


class ImagePool:
    """Keeps up to `size` images and hands out old ones half of the time (Shrivastava et al. 2017).

    While it fills, an image is stored and returned as it is. Once full, each image is, with
    probability 1/2, exchanged for a stored one chosen uniformly, and else returned as it is.
    Images are copied in and never changed afterwards.

    Args:
        size: how many images to keep (50 in the CycleGAN paper, section 4); 0 switches it off.
        seed: seed of its own random stream (anything that `numpy.random.default_rng` takes).

    Raises:
        ValueError: a negative size.
    """

    def __init__(self, size: int, seed=0):
        if size < 0:
            raise ValueError(f"size must be 0 or more, not {size}")
        self.size = size
        self.images: list = []
        self.rng = np.random.default_rng(seed)

    def query(self, images: Sequence[AnyImage]) -> list[AnyImage]:
        """Pass images through the pool, one by one; return as many."""
        return [self._exchange(image) for image in images]

    def _exchange(self, image):
        if self.size == 0:
            return image
        if len(self.images) < self.size:
            self.images.append(image.copy())
            return image
        if self.rng.random() < 0.5:
            return image
        index = self.rng.integers(self.size)
        past, self.images[index] = self.images[index], image.copy()
        return past
