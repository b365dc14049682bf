"""Frechet and kernel distances against analytic cases."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from cyclegan_ms.evaluate import distances
from cyclegan_ms.evaluate.distances import frechet_distance, kernel_distance

pytestmark = pytest.mark.quick


def gaussian(rng, n, mean, covariance):
    """n vectors whose own mean and covariance are exactly these."""
    x = rng.normal(size=(n, len(mean)))
    q, _ = np.linalg.qr(x - x.mean(axis=0))  # orthonormal columns of mean 0
    return q * np.sqrt(n - 1) @ np.linalg.cholesky(covariance).T + mean


def test_frechet_of_diagonal_covariances(rng):
    """Sum of (difference of means)^2 and (difference of standard deviations)^2."""
    x = gaussian(rng, 20, np.array([1.0, 2, 3]), np.diag([4.0, 9, 1]))
    y = gaussian(rng, 30, np.array([1.0, 4, 0]), np.diag([1.0, 9, 16]))
    assert frechet_distance(x, y) == pytest.approx((4 + 9) + (1 + 0 + 9))


def test_frechet_of_any_covariances(rng):
    """Against the definition, with the square root of a matrix."""
    means = rng.normal(size=(2, 5))
    roots = rng.normal(size=(2, 5, 5))
    first, second = (root @ root.T for root in roots)
    x, y = gaussian(rng, 50, means[0], first), gaussian(rng, 40, means[1], second)
    cross = np.trace(sqrtm(first @ second).real)
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected)
    assert frechet_distance(y, x) == pytest.approx(expected)


@pytest.mark.parametrize("n", [10, 100])  # fewer vectors than dimensions, and more
def test_frechet_of_equal_and_of_shifted_sets(rng, n):
    x = rng.normal(size=(n, 40))
    assert frechet_distance(x, rng.permutation(x)) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x, x + 0.5) == pytest.approx(40 * 0.25)
    assert frechet_distance(x, 3 * x) == pytest.approx(
        4 * (x.mean(axis=0) ** 2).sum() + 4 * x.var(axis=0, ddof=1).sum()
    )


def test_frechet_without_full_rank():
    """Sets on two lines at a right angle: nothing in common, so that the variances add up."""
    x, y = np.zeros((2, 3, 50))
    x[:, 0] = [-2, 0, 2]  # variance 4
    y[:, 1] = [-3, 0, 3]  # variance 9
    assert frechet_distance(x, y) == pytest.approx(13)
    y[:, 0], y[:, 1] = y[:, 1].copy(), 0  # now on one line: (3 - 2)^2
    assert frechet_distance(x, y) == pytest.approx(1)


def test_kernel_distance_by_hand():
    """k(1, 1) = 8, k with 0 is 1; within x 2 of the 12 ordered pairs are (1, 1)."""
    x, y = np.array([[0.0], [0], [1], [1]]), np.zeros((4, 1))
    value, _ = kernel_distance(x, y)
    assert value == pytest.approx((2 * 8 + 10 * 1) / 12 + 1 - 2 * 1)


def test_kernel_distance_against_loops(rng):
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)) + 1

    def mean(pairs):
        return np.mean([(u @ v / 3 + 1) ** 3 for u, v in pairs])

    within = [
        mean([(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)
    ]
    expected = sum(within) - 2 * mean([(u, v) for u in x for v in y])
    assert kernel_distance(x, y)[0] == pytest.approx(expected)


def test_blocks_change_nothing(rng, monkeypatch):
    """Against whole matrices, and whole matrices of each half; sets smaller and larger than one."""
    x, y = rng.normal(size=(23, 5)), rng.normal(size=(10, 5)) + 0.3

    def unbiased(x, y):
        xx, yy, xy = ((u @ v.T / 5 + 1) ** 3 for u, v in ((x, x), (y, y), (x, y)))
        within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
        return sum(within) - 2 * xy.mean()

    draw = np.random.default_rng(3)
    halves = [
        unbiased(*(s[draw.choice(len(s), len(s) // 2, replace=False)] for s in (x, y)))
        for _ in range(7)
    ]
    for block in (1, 4, 10, 100):
        monkeypatch.setattr(distances, "_BLOCK", block)
        value, error = kernel_distance(x, y, 7, seed=3)
        assert value == pytest.approx(unbiased(x, y), rel=1e-10)
        assert error == pytest.approx(np.std(halves, ddof=1), rel=1e-10)


def test_kernel_distance_is_unbiased(rng):
    """In one dimension, for N(0, 1) against 0: E (uv + 1)^3 = 3 + 1, 1 and 1, so 4 + 1 - 2 = 3."""
    estimates = [
        kernel_distance(rng.normal(size=(6, 1)), np.zeros((4, 1)), 2)[0] for _ in range(4000)
    ]
    assert np.mean(estimates) == pytest.approx(3, abs=4 * np.std(estimates) / np.sqrt(4000))
    same = [kernel_distance(*rng.normal(size=(2, 6, 2)), 2)[0] for _ in range(4000)]
    assert np.mean(same) == pytest.approx(0, abs=4 * np.std(same) / np.sqrt(4000))
    assert min(same) < 0


@pytest.mark.parametrize("shift,least,most", [(0.5, 0.9, 1.25), (0, 1.4, 2.1)])
def test_standard_error_beside_the_spread_of_repeated_estimates(rng, shift, least, most):
    """Right where the sets differ; where they do not, the square root of 3 of it, as documented."""
    drawn = [
        kernel_distance(rng.normal(size=(60, 4)), rng.normal(size=(40, 4)) + shift)
        for _ in range(400)
    ]
    values, errors = np.transpose(drawn)
    assert least < np.mean(errors) / np.std(values) < most


def test_the_seed_decides_the_halves(rng):
    x, y = rng.normal(size=(2, 20, 3))
    assert kernel_distance(x, y, seed=1) == kernel_distance(x, y, seed=1)
    first, second = (kernel_distance(x, y, seed=seed) for seed in (1, 2))
    assert first[0] == second[0] and first[1] != second[1]
