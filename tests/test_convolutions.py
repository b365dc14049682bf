"""Convolutions by other kernels: the same numbers as `nn.Conv2d`, forward and backward."""

import numpy as np
import pytest

import mindspore as ms
from mindspore import nn

from cyclegan_ms.model.convolutions import LeanConv2d, NarrowConv2d

pytestmark = pytest.mark.quick


def relative(ours, theirs):
    return np.abs(ours.asnumpy() - theirs.asnumpy()).max() / np.abs(theirs.asnumpy()).max()


@pytest.mark.parametrize(
    "lean,n,c_in,c_out,kernel,height,width",
    [
        (True, 1, 8, 16, 3, 9, 12),  # of a residual block
        (True, 3, 6, 5, 3, 10, 7),
        (True, 2, 16, 1, 4, 8, 9),
        (True, 1, 5, 4, 2, 2, 2),  # to a single pixel
        (False, 1, 16, 3, 7, 12, 15),  # a generator's last
        (False, 3, 8, 1, 7, 8, 7),
    ],
)
def test_values_and_gradients(mode, rng, lean, n, c_in, c_out, kernel, height, width):
    """One layer used twice, as in training, so that its gradients add up."""
    shape = (c_in, c_out, kernel)
    plain = nn.Conv2d(*shape, pad_mode="valid", has_bias=True, bias_init="normal")
    ours = (LeanConv2d if lean else NarrowConv2d)(*shape, has_bias=True)
    assert [p.name for p in ours.trainable_params()] == ["weight", "bias"]
    for mine, theirs in zip(ours.trainable_params(), plain.trainable_params()):
        mine.set_data(theirs)
    x = ms.Tensor(rng.normal(size=(n, c_in, height, width)).astype(np.float32))
    assert relative(ours(x), plain(x)) < 2e-6
    weights = ms.Tensor(rng.normal(size=plain(x).shape).astype(np.float32))

    def gradients(cell):
        def loss(x, weights):
            return (cell(x) ** 2 * weights).sum() + (cell(0.5 * x) * weights).sum()

        return ms.grad(loss, 0, cell.trainable_params())(x, weights)

    (by_input, by_parameters), (expected, of_parameters) = gradients(ours), gradients(plain)
    assert relative(by_input, expected) < 3e-6
    for gradient, other in zip(by_parameters, of_parameters):
        assert relative(gradient, other) < 3e-6


def test_gradient_by_hand():
    """x = [[1, 2, 3], [4, 5, 6], [7, 8, 9]], weights [[1, 0], [0, -1]], the sum of all outputs."""
    cell = LeanConv2d(1, 1, 2, has_bias=True, bias_init="zeros")
    cell.weight.set_data(ms.Tensor(np.array([[[[1, 0], [0, -1]]]], np.float32)))
    x = ms.Tensor(np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3))
    assert cell(x).asnumpy().ravel().tolist() == [1 - 5, 2 - 6, 4 - 8, 5 - 9]

    def total(x):
        return cell(x).sum()

    by_input, (by_weight, by_bias) = ms.grad(total, 0, cell.trainable_params())(x)
    assert by_input.asnumpy()[0, 0].tolist() == [[1, 1, 0], [1, 0, -1], [0, -1, -1]]
    assert by_weight.asnumpy()[0, 0].tolist() == [[1 + 2 + 4 + 5, 2 + 3 + 5 + 6],
                                                  [4 + 5 + 7 + 8, 5 + 6 + 8 + 9]]  # fmt: skip
    assert by_bias.asnumpy().tolist() == [4]
