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
    the square root of 3 where both are of one distribution. The kernel is computed block by block:
    memory grows with N and M alone, time with their squares.

    Args:
        x: (N, D), N at least 4.
        y: (M, D), M at least 4.
        halves: number of halves to draw.
        seed: seed of the draw.
    """
    rng = np.random.default_rng(seed)
    draws = [
        [rng.choice(len(s), len(s) // 2, replace=False) for s in (x, y)] for _ in range(halves)
    ]
    of_x, of_y = (_members(len(s), chosen) for s, chosen in zip((x, y), zip(*draws)))
    within_x, within_y = _within(x, of_x), _within(y, of_y)
    n, m = of_x.sum(axis=0), of_y.sum(axis=0)
    between = sum(
        _sums(_kernel(x[rows], y[columns]), of_x[rows], of_y[columns])
        for rows in _blocks(x) for columns in _blocks(y)
    )  # fmt: skip
    # No vector meets itself within a set.
    estimates = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * between / (n * m)
    return float(estimates[0]), float(np.std(estimates[1:], ddof=1))


_BLOCK = 1024
"""Vectors whose kernel with as many others is held at once: 8 MB."""


def _blocks(x):
    return [slice(start, start + _BLOCK) for start in range(0, len(x), _BLOCK)]


def _members(count, chosen):
    """Return which vectors are in the whole set, the first column, and in each choice: 0 and 1."""
    members = np.zeros((count, len(chosen) + 1))
    members[:, 0] = 1
    for column, indices in enumerate(chosen, 1):
        members[indices, column] = 1
    return members


def _kernel(x, y):
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** 3


def _sums(kernel, rows, columns):
    """Sum a kernel (n, m) over the members in `rows` (n, K) and `columns` (m, K): K sums."""
    return np.einsum("nk,nk->k", rows, kernel @ columns)


def _within(x, members):
    """Sum the kernel of a set over the pairs of different vectors: for each column of `members`."""
    total = np.zeros(members.shape[1])
    blocks = _blocks(x)
    for index, rows in enumerate(blocks):
        kernel = _kernel(x[rows], x[rows])
        np.fill_diagonal(kernel, 0)
        total += _sums(kernel, members[rows], members[rows])
        for columns in blocks[:index]:  # and once more the other way round
            kernel = _kernel(x[rows], x[columns])
            total += 2 * _sums(kernel, members[rows], members[columns])
    return total


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
            "fid", "FID", ".2f", "less",
            "Frechet distance between the features of translated and of real test images of the "
            "target domain. With a few hundred images it is much too large: compare only values of "
            "the same network, image size and numbers of images, and no published ones.",
        ),
        frechet_distance,
    ),
    Distance(
        Metric(
            "kid", "KID x 1000", ".1f", "less",
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
                error = f"{label}, error" if label else "- its standard error"
                yield Metric(
                    f"{base.key}{ending}_standard_error", error, base.form,
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
