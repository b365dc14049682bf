"""What accelerators would compute: networks and steps of plain operators, here on CPU."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from helpers import generator, tiny

import mindspore as ms

from cyclegan_ms.config import DeviceConfig
from cyclegan_ms.device import setup_device
from cyclegan_ms.model.operators import for_cpu, plain_operators
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks


@pytest.mark.quick
def test_plain_operators_end_with_their_block():
    assert for_cpu()
    with pytest.raises(KeyError), plain_operators():
        assert not for_cpu()
        with plain_operators():
            assert not for_cpu()
        assert not for_cpu()
        raise KeyError
    assert for_cpu()


def differentiate(cell, x, direction):
    """The output, and the gradients of sum(output * direction) by the input and every weight."""

    def loss(x, direction):
        y = cell(x)
        return (y * direction).sum(), y

    parameters = cell.trainable_params()
    by = ms.value_and_grad(loss, 0, parameters, has_aux=True)
    (_, y), (by_x, by_parameters) = by(x, direction)
    gradients = {p.name: gradient.asnumpy() for p, gradient in zip(parameters, by_parameters)}
    return y.asnumpy(), {"x": by_x.asnumpy(), **gradients}


def test_a_generator_and_its_gradients(mode, images, rng):
    """Of a whole generator, by its picture and by every weight."""
    x = ms.Tensor(images(2, 3, 32))
    direction = ms.Tensor(rng.normal(size=(2, 1, 32, 32)).astype(np.float32))
    found = []
    for operators in (nullcontext, plain_operators):
        with operators():
            cell = generator("paper-3to1")
        found.append(differentiate(cell, x, direction))
    (ours, gradients), (theirs, others) = found
    assert np.abs(ours - theirs).max() < 2e-5 and np.abs(ours).max() > 0.5
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert np.abs(gradient - others[name]).max() < 5e-6 * largest, name


def losses_of(mode, amp, operators, images):
    """The loss terms of a few steps, with pools that are full after the first."""
    config = replace(tiny(pool_size=2), device=DeviceConfig(amp=amp))
    setup_device("CPU", mode, seed=0)
    with operators():
        model = CycleGAN(build_networks(config.model), config, [2e-4] * len(images))
    return np.array([list(model.step(*real).values()) for real in images])


@pytest.mark.parametrize(
    "mode,amp,tolerance",
    [("graph", "O0", 1e-4), ("pynative", "O0", 1e-4), ("graph", "O2", 2e-3)],
    indirect=["mode"],
)
def test_whole_steps(mode, amp, tolerance, rng):
    """Losses of the first step, of one with pooled fakes, and of one after two updates."""
    images = rng.uniform(-1, 1, (3, 2, 2, 3, 32, 32)).astype(np.float32)
    expected, losses = (
        losses_of(mode, amp, operators, images) for operators in (nullcontext, plain_operators)
    )
    assert len(np.unique(expected)) == 3 * 8
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
