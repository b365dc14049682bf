"""Warnings about trainings that go wrong, and none about one that goes right."""

import math

import numpy as np
import pytest

import mindspore as ms
from mindspore import nn

from cyclegan_ms.model.losses import CrossEntropy, DiscriminatorLoss, LeastSquares
from cyclegan_ms.training.health import Health

pytestmark = pytest.mark.quick


@pytest.fixture
def smooth(rng):
    """Four different smooth images."""
    y, x = np.mgrid[:16, :16] / 16
    phases = rng.uniform(0, 6, (4, 3, 1, 1))
    return np.sin(3 * x + 2 * y + phases).astype(np.float32)


def test_a_discriminator_that_has_won(caplog):
    health = Health(0.02, window=5)
    for step in range(20):
        health.watch_losses(step, {"d_a": 0.001, "d_b": 0.25 if step % 4 == 0 else 0.001})
    assert [r.getMessage().split(" has")[0] for r in caplog.records] == ["step 4: d_a"]


@pytest.mark.parametrize(
    "adversarial, weight, low",
    [
        (LeastSquares, 0.5, 0.02),  # (0.14^2 + 0.14^2) / 2
        (LeastSquares, 1.0, 0.04),  # the tutorial's, not halved
        (CrossEntropy, 0.5, 0.1524),  # -log(1 - 0.1414), where one that cannot tell has log 2
    ],
)
def test_what_has_won_follows_the_loss(adversarial, weight, low, caplog):
    """A discriminator that is off by 0.1414 on both: that is the value."""
    loss = adversarial()
    judge = DiscriminatorLoss(nn.Identity(), nn.Identity(), loss, weight)
    assert judge.won == pytest.approx(low, rel=1e-3)
    error = 0.02**0.5
    real, fake = 1 - error, error
    if adversarial is CrossEntropy:  # logits of these probabilities
        real, fake = (math.log(p / (1 - p)) for p in (real, fake))
    value = weight * loss.for_discriminator(
        *(ms.Tensor([[[[x]]]], ms.float32) for x in (real, fake))
    )
    assert float(value) == pytest.approx(judge.won, rel=1e-5)


def test_a_generator_that_changes_nothing(smooth, caplog):
    health = Health(0.02)
    for _ in range(2):
        health.watch_samples("g_ab", smooth, smooth + 0.019)
    assert [r.getMessage()[:44] for r in caplog.records] == [
        "g_ab gives its input back, and so has a perf"
    ]
    health.watch_samples("g_ba", smooth, smooth + 0.021)
    assert len(caplog.records) == 1


def test_inverted_colours(smooth, caplog):
    health = Health(0.02)
    for _ in range(3):
        health.watch_samples("g_ab", smooth, -smooth)
    assert len(caplog.records) == 1
    assert "g_ab inverts its input (correlation -1.00)" in caplog.text


def test_outputs_that_no_longer_depend_on_the_input(smooth, caplog):
    same = np.repeat(smooth[:1], 4, axis=0)
    Health(0.02).watch_samples("g_ba", smooth, same + 0.001 * smooth)
    assert "g_ba gives nearly the same picture for every input" in caplog.text


def test_a_healthy_training_is_quiet(smooth, caplog):
    health = Health(0.02, window=5)
    for step in range(20):
        health.watch_losses(step, {"d_a": 0.2, "d_b": 0.15})
    health.watch_samples("g_ab", smooth, 0.6 * smooth + 0.2)
    health.watch_samples("g_ab", smooth, smooth[:, :1] - 0.1)  # colour to gray
    assert not caplog.records
