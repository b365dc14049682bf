"""Distances between two sets of feature vectors: Frechet (FID) and kernel (KID). NumPy only."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cyclegan_ms.evaluate.metrics import Metric

__all__ = ["HALVES", "METRICS", "SEED", "compare", "frechet_distance", "kernel_distance"]

HALVES = 100
"""Number of random halves that the standard error of a kernel distance is computed from."""
SEED = 0
"""Seed of their draw."""


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Frechet distance of Gaussians fitted to two sets (Heusel et al. 2017).

    |m_x - m_y|^2 + tr(C_x) + tr(C_y) - 2 tr((C_x C_y)^(1/2)), with means m and covariances C
    (normalised by N - 1). With fewer vectors than dimensions it is defined and exact, but as an
    estimate it is too large by an amount that falls as 1/N (Chong and Forsyth 2020): compare only
    values from the same numbers of images, never with those published for 50000.

    Args:
        x: (N, D), N at least 2.
        y: (M, D), M at least 2.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    root_x, root_y = _covariance_root(x), _covariance_root(y)
    # With C = R^T R, the eigenvalues of C_x C_y are the squared singular values of R_x R_y^T. So
    # no square root of a matrix is needed, which would fail for covariances without full rank.
    both = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    means = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2)
    distance = means + np.sum(root_x**2) + np.sum(root_y**2) - 2 * both
    return max(0.0, float(distance))  # rounding can take equal sets below zero


def _covariance_root(x):
    """Return R of min(N, D) rows, with R^T R the covariance of x."""
    centred = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(centred, mode="r") if len(x) > x.shape[1] else centred


def kernel_distance(
    x: np.ndarray, y: np.ndarray, halves: int = HALVES, seed: int = SEED
) -> tuple[float, float]:
    """Return the squared maximum mean discrepancy of two sets, and its standard error.

    The kernel is k(u, v) = (u v / D + 1)^3 and the estimate the unbiased one of Binkowski et al.
    2018, equation 4, so that it is 0 on average for sets of one distribution, and sometimes
    negative. It is taken from all vectors at once: being unbiased, it has the expectation of the
    usual mean over subsets. The standard error is the standard deviation of the estimate over
    random halves of both sets, the delete-half jackknife (Shao and Wu 1989). Between sets that
    hardly differ it is up to twice too large, for the estimate then no longer behaves like a mean:
    the square root of 3 where both are of one distribution.

    Args:
        x: (N, D), N at least 4.
        y: (M, D), M at least 4.
        halves: number of halves to draw.
        seed: seed of the draw.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kernels = [(u @ v.T / x.shape[1] + 1) ** 3 for u, v in ((x, x), (y, y), (x, y))]
    rng = np.random.default_rng(seed)
    estimates = []
    for _ in range(halves):
        i, j = (rng.choice(len(s), len(s) // 2, replace=False) for s in (x, y))
        parts = zip(kernels, ((i, i), (j, j), (i, j)))
        estimates.append(_unbiased(*(kernel[np.ix_(*chosen)] for kernel, chosen in parts)))
    return _unbiased(*kernels), float(np.std(estimates, ddof=1))


def _unbiased(xx, yy, xy):
    """Estimate from the kernel within x, within y and between them; no vector meets itself."""
    n, m = xy.shape
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * xy.mean())


@dataclass(frozen=True)
class Distance:
    """A distance between sets of features, as it is reported."""

    metric: Metric
    compute: Callable[[np.ndarray, np.ndarray], float | tuple[float, float]]
    """of two sets (N, D) and (M, D); a pair is a value and its standard error"""
    has_error: bool = False


DISTANCES = (
    Distance(
        Metric(
            "fid", "FID", ".4g", "less",
            "Frechet distance between the features of translated and of real test images of the "
            "target domain. With a few hundred images it is much too large: compare only values of "
            "the same network, image size and numbers of images, and no published ones.",
        ),
        frechet_distance,
    ),
    Distance(
        Metric(
            "kid", "KID x 1000", ".3g", "less",
            "Kernel distance between the same features, 0 on average for sets that do not differ. "
            f"Its standard error is from {HALVES} random halves of the images (seed {SEED}), and "
            "up to twice too large where two sets hardly differ.", 1000,
        ),
        kernel_distance, has_error=True,
    ),
)  # fmt: skip

OTHERS = {
    "": "",
    "_untranslated": "- of untranslated images",
    "_real": "- of real training images",
}
"""What is compared with the real test images of the target domain, beside translations: ends of
keys, and labels. The training images are of the target domain, as many as there are translations,
spread over the set (all, where it has fewer)."""


def _metrics() -> Iterator[Metric]:
    for distance in DISTANCES:
        base = distance.metric
        for ending, label in OTHERS.items():
            if ending:
                yield Metric(f"{base.key}{ending}", label, base.form, factor=base.factor)
            else:
                yield base
            if distance.has_error:
                yield Metric(
                    f"{base.key}{ending}_standard_error", "- its standard error", base.form,
                    factor=base.factor, averaged=False,
                )  # fmt: skip


METRICS = tuple(_metrics())


def compare(tests: np.ndarray, others: dict[str, np.ndarray]) -> dict[str, float]:
    """Compute all distances of some sets of features from those of the test images.

    Args:
        tests: (N, D).
        others: (M, D) by ending of the key, see `OTHERS`.
    """
    found: dict[str, float] = {}
    for ending, features in others.items():
        for distance in DISTANCES:
            key, value = f"{distance.metric.key}{ending}", distance.compute(features, tests)
            if isinstance(value, tuple):
                found[key], found[f"{key}_standard_error"] = value
            else:
                found[key] = value
    return found
