"""Warnings about trainings that go wrong, and none about one that goes right."""

import numpy as np
import pytest

from cyclegan_ms.training.health import Health

pytestmark = pytest.mark.quick


@pytest.fixture
def smooth(rng):
    """Four different smooth images."""
    y, x = np.mgrid[:16, :16] / 16
    phases = rng.uniform(0, 6, (4, 3, 1, 1))
    return np.sin(3 * x + 2 * y + phases).astype(np.float32)


def test_a_discriminator_that_has_won(caplog):
    health = Health(window=5)
    for step in range(20):
        health.watch_losses(step, {"d_a": 0.001, "d_b": 0.25 if step % 4 == 0 else 0.001})
    assert [r.getMessage().split(" has")[0] for r in caplog.records] == ["step 4: d_a"]


def test_inverted_colours(smooth, caplog):
    health = Health()
    for _ in range(3):
        health.watch_samples("g_ab", smooth, -smooth)
    assert len(caplog.records) == 1
    assert "g_ab inverts its input (correlation -1.00)" in caplog.text


def test_outputs_that_no_longer_depend_on_the_input(smooth, caplog):
    same = np.repeat(smooth[:1], 4, axis=0)
    Health().watch_samples("g_ba", smooth, same + 0.001 * smooth)
    assert "g_ba gives nearly the same picture for every input" in caplog.text


def test_a_healthy_training_is_quiet(smooth, caplog):
    health = Health(window=5)
    for step in range(20):
        health.watch_losses(step, {"d_a": 0.2, "d_b": 0.15})
    health.watch_samples("g_ab", smooth, 0.6 * smooth + 0.2)
    health.watch_samples("g_ab", smooth, smooth[:, :1] - 0.1)  # colour to gray
    assert not caplog.records
