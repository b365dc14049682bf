"""Distances between two sets of feature vectors: Frechet (FID) and kernel (KID). NumPy only."""

import numpy as np

__all__ = ["HALVES", "SEED", "frechet_distance", "kernel_distance"]

HALVES = 100
"""Random halves from which the standard error of a kernel distance is taken."""
SEED = 0
"""Of their draw."""


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Frechet distance between the Gaussians fitted to two sets (Heusel et al. 2017).

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
    """R with R^T R the covariance of x, of min(N, D) rows."""
    centred = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(centred, mode="r") if len(x) > x.shape[1] else centred


def kernel_distance(
    x: np.ndarray, y: np.ndarray, halves: int = HALVES, seed: int = SEED
) -> tuple[float, float]:
    """Squared maximum mean discrepancy of two sets, and its standard error (Binkowski et al. 2018).

    The kernel is k(u, v) = (u v / D + 1)^3, the estimate the unbiased one of their equation 4, so
    that it is 0 on average for sets of one distribution, and sometimes negative. It is taken from
    all vectors at once: being unbiased, it has the expectation of the usual mean over subsets. The
    standard error is the standard deviation of the estimate over random halves of both sets, the
    delete-half jackknife (Shao and Wu 1989). Between sets that hardly differ it is up to twice too
    large, for the estimate then no longer behaves like a mean: the square root of 3 where both are
    of one distribution.

    Args:
        x: (N, D), N at least 4.
        y: (M, D), M at least 4.
        halves: how many halves to draw.
        seed: of the draw.
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
    """From the kernel within x, within y and between them: no vector is compared with itself."""
    n, m = xy.shape
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * xy.mean())
