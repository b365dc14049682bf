"""What accelerators would compute: networks of plain operators, here on CPU."""

from contextlib import nullcontext

import numpy as np
import pytest
from helpers import generator

import mindspore as ms

from cyclegan_ms.model.operators import for_cpu, plain_operators


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
