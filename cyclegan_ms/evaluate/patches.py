"""How far a set of pictures is from another by what their patches look like: no network needed."""

import numpy as np

from cyclegan_ms.evaluate.metrics import Metric

__all__ = ["METRIC", "patch_distance"]

SIDE = 7
"""Side of a patch in pixels."""
PATCHES = 128
"""Patches of a picture at each size."""
DIRECTIONS = 256
SMALLEST = 16
"""Side of the smallest pictures that patches are cut from."""

METRIC = Metric(
    "patch_distance", "distance of patches to the target's", ".3f", "less",
    f"Sliced Wasserstein distance between patches of {SIDE}x{SIDE} pixels of translations and of "
    f"real test images of the target domain, in standard deviations of the latter: mean over "
    f"pictures at full, half, quarter ... size. It sees colour and texture, not things.",
)  # fmt: skip


def patch_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return how far the patches of pictures x are from those of y: 0 for equal sets.

    Patches are cut from pictures at full, half, quarter ... size. At each, their values are counted
    in standard deviations of y's from y's mean, channel by channel, and the distance is the sliced
    Wasserstein one: the mean difference of the quantiles of their projections on random directions
    (Rabin et al. 2011; of patches at several sizes as in Karras et al. 2018, section 5, but with
    colours left as they are, which most translations are about). The draws are fixed.

    Args:
        x: (N, C, S, S) in [-1, 1], S at least 16.
        y: (M, C, S, S), the target.
    """
    rng = np.random.default_rng(0)
    levels: list[float] = []
    while True:
        patches_x, patches_y = (_patches(pictures, len(levels)) for pictures in (x, y))
        mean, deviation = (
            statistic(patches_y, axis=(0, 2), keepdims=True) for statistic in (np.mean, np.std)
        )
        x_values, y_values = (
            ((patches - mean) / (deviation + 1e-3)).reshape(len(patches), -1)
            for patches in (patches_x, patches_y)
        )
        directions = rng.normal(size=(x_values.shape[1], DIRECTIONS))
        directions /= np.linalg.norm(directions, axis=0)
        quantiles = np.linspace(0, 1, 257)
        of_x, of_y = (
            np.quantile(values @ directions, quantiles, axis=0) for values in (x_values, y_values)
        )
        levels.append(float(np.abs(of_x - of_y).mean()))
        if x.shape[2] // 2 < SMALLEST:
            return float(np.mean(levels))
        x, y = _halved(x), _halved(y)


def _patches(pictures, seed):
    """Cut patches at random places: (N, C, S, S) to (N x PATCHES, C, SIDE^2)."""
    rng = np.random.default_rng([1, seed])
    n, c, height, width = pictures.shape
    places = np.lib.stride_tricks.sliding_window_view(pictures, (SIDE, SIDE), axis=(2, 3))
    rows, columns = (rng.integers(0, side - SIDE + 1, (n, PATCHES)) for side in (height, width))
    chosen = places[np.arange(n)[:, None], :, rows, columns]
    return chosen.reshape(n * PATCHES, c, SIDE * SIDE)


def _halved(pictures):
    """Halve the sides, each pixel the mean of four; an odd last row or column is left out."""
    n, c, height, width = pictures.shape
    height, width = height // 2, width // 2
    even = pictures[:, :, : 2 * height, : 2 * width]
    return even.reshape(n, c, height, 2, width, 2).mean((3, 5))
