"""Augmentation that gradients go through, for what discriminators see of few pictures.

Zhao et al. 2020, *Differentiable Augmentation for Data-Efficient GAN Training*: brightness,
saturation, contrast, then a shift, then a square that is blank. Real images and fakes are changed
alike, so that a discriminator cannot learn real ones by heart, and no change leaks into the fakes.
"""

import numpy as np

import mindspore as ms
from mindspore import ops

__all__ = ["COLUMNS", "augmented", "draw"]

COLUMNS = ("brightness", "saturation", "contrast", "down", "right", "row", "column")
"""What is drawn for an image: an amount and two factors; a shift and a place, as shares of the
sides."""


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw the changes of some images, (count, 7) float32, in the paper's ranges (section 3.2).

    Brightness moves by up to 0.5 of the values' half range, saturation by a factor of 0 to 2,
    contrast by 0.5 to 1.5; a shift is at most an eighth of a side; the middle of the blank square,
    half as large as the image, lies anywhere.
    """
    low = [-0.5, 0.0, 0.5, -0.125, -0.125, 0.0, 0.0]
    high = [0.5, 2.0, 1.5, 0.125, 0.125, 1.0, 1.0]
    return rng.uniform(low, high, (count, len(COLUMNS))).astype(np.float32)


def augmented(x: ms.Tensor, draws: ms.Tensor) -> ms.Tensor:
    """Change images as drawn.

    Args:
        x: (N, C, H, W).
        draws: (N, 7), see `draw`; of an image each.

    Returns (N, C, H, W), zero where the image was moved away or made blank.
    """
    n, _, h, w = x.shape
    brightness, saturation, contrast, down, right, row, column = ops.split(
        draws.reshape(n, 7, 1, 1), 1, 1
    )
    x = x + brightness
    gray = x.mean(1, keep_dims=True)
    x = (x - gray) * saturation + gray
    mean = x.mean((1, 2, 3), keep_dims=True)
    x = (x - mean) * contrast + mean
    rows, columns = (
        ms.numpy.arange(side).astype(ms.float32).reshape(1, 1, side, 1) for side in (h, w)
    )
    # A shift as a product with a matrix of ones and zeros: quick, and so is its gradient.
    x = ops.matmul(_equal(rows - ops.round(down * h), rows.swapaxes(2, 3)), x)
    x = ops.matmul(x, _equal(columns, columns.swapaxes(2, 3) - ops.round(right * w)))
    blank = _near(rows, row * h, h) * _near(columns, column * w, w).swapaxes(2, 3)
    return x * (1 - blank)


def _equal(x, y):
    return ops.equal(x, y).astype(ms.float32)


def _near(places, middle, side):
    """Return 1 where a place is within a quarter of the side of the middle, else 0."""
    return ops.less(ops.abs(places + 0.5 - middle), side / 4).astype(ms.float32)
