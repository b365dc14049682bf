"""Convolutions by other kernels: the same numbers as MindSpore's own, forward and backward."""

import numpy as np
import pytest
import torch

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import ModelConfig
from cyclegan_ms.model.convolutions import Conv2d, Conv2dTranspose, Nearest, ResizeConv2d
from cyclegan_ms.model.kernels import Plain
from cyclegan_ms.model.operators import plain_operators
from cyclegan_ms.model.unrolled import Unrolled
from cyclegan_ms.model.winograd import POINTS, Winograd, transforms
from cyclegan_ms.training.cyclegan import build_networks

pytestmark = pytest.mark.quick


def relative(ours, theirs):
    ours, theirs = (x if isinstance(x, np.ndarray) else x.asnumpy() for x in (ours, theirs))
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def compare(ours, plain, x, rng):
    """One layer used twice, as in training, so that its gradients add up."""
    assert ours.method is not None
    assert [p.name for p in ours.trainable_params()] == [p.name for p in plain.trainable_params()]
    for mine, theirs in zip(ours.trainable_params(), plain.trainable_params()):
        mine.set_data(theirs)
    x = ms.Tensor(x.astype(np.float32))
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


@pytest.mark.parametrize(
    "n,c_in,c_out,kernel,stride,padding,height,width",
    [
        (1, 8, 16, 3, 1, 0, 10, 14),  # of a residual block: whole tiles
        (3, 6, 5, 3, 1, 0, 9, 7),  # tiles that hang over the edges
        (2, 4, 9, 3, 1, 1, 8, 11),  # of the tutorial's block
        (1, 2, 3, 3, 1, 0, 3, 3),  # to a single pixel
        (1, 3, 16, 7, 1, 0, 14, 17),  # a generator's first
        (2, 3, 10, 7, 1, 3, 12, 9),  # the tutorial's
        (1, 16, 3, 7, 1, 0, 12, 15),  # its last
        (3, 12, 1, 7, 1, 0, 8, 7),
        (1, 12, 20, 3, 2, 1, 12, 16),  # one that halves the sides
        (2, 10, 12, 3, 2, 1, 11, 9),  # an odd picture
        (2, 3, 12, 4, 2, 1, 12, 14),  # a discriminator's first
        (1, 10, 14, 4, 2, 1, 9, 11),
        (2, 12, 14, 4, 1, 1, 9, 8),  # its last but one
        (1, 24, 1, 4, 1, 1, 9, 8),  # its last
    ],
)
def test_values_and_gradients(mode, rng, n, c_in, c_out, kernel, stride, padding, height, width):
    start = {"has_bias": True, "bias_init": "normal", "weight_init": "normal"}
    ours = Conv2d(c_in, c_out, kernel, stride, padding, **start)
    plain = nn.Conv2d(c_in, c_out, kernel, stride, pad_mode="pad", padding=padding, **start)
    compare(ours, plain, rng.normal(size=(n, c_in, height, width)), rng)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("n,height,width", [(1, 6, 8), (3, 5, 7)])
def test_values_and_gradients_transposed(mode, rng, same, n, height, width):
    start = {"has_bias": True, "bias_init": "normal", "weight_init": "normal"}
    padding = {"pad_mode": "same"} if same else {"pad_mode": "pad", "padding": (1, 0, 1, 0)}
    plain = nn.Conv2dTranspose(12, 10, 3, 2, **padding, **start)
    ours = Conv2dTranspose(12, 10, same=same, **start)
    compare(ours, plain, rng.normal(size=(n, 12, height, width)), rng)


class PlainResize(nn.Cell):
    """The three steps of `ResizeConv2d` by MindSpore's own layers, as in most PyTorch models."""

    def __init__(self, c_in, c_out, **start):
        super().__init__(auto_prefix=False)
        self.pad, self.conv = nn.ReflectionPad2d(1), nn.Conv2d(c_in, c_out, 3, **start)

    def construct(self, x):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.conv(self.pad(x))


@pytest.mark.parametrize("n,height,width", [(1, 6, 8), (3, 5, 7), (1, 2, 1)])
def test_values_and_gradients_resized(mode, rng, n, height, width):
    start = {"has_bias": True, "bias_init": "normal", "weight_init": "normal"}
    ours = ResizeConv2d(12, 10, **start)
    plain = PlainResize(12, 10, pad_mode="valid", **start)
    x = rng.normal(size=(n, 12, height, width))
    compare(ours, plain, x, rng)
    with plain_operators():
        elsewhere = ResizeConv2d(12, 10, **start)
    assert elsewhere.method is None
    for mine, theirs in zip(elsewhere.trainable_params(), plain.trainable_params()):
        mine.set_data(theirs)
    x = ms.Tensor(x.astype(np.float32))
    assert relative(elsewhere(x), plain(x)) < 1e-6


def test_resized_by_hand():
    """[[1, 2]] doubled is two rows of 1 1 2 2; mirrored, 1 1 1 2 2 2 in four rows."""
    assert Nearest()(ms.Tensor([[[[1.0, 2.0]]]])).asnumpy().tolist() == [[[[1, 1, 2, 2]] * 2]]
    cell = ResizeConv2d(1, 1, has_bias=True, bias_init="zeros")
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, 0], weight[0, 0, 0, 2] = 10, 1  # the left neighbour, and above to the right
    cell.weight.set_data(ms.Tensor(weight))
    y = cell(ms.Tensor([[[[1.0, 2.0]]]]))
    assert y.asnumpy().round(5).tolist() == [[[[11, 12, 12, 22]] * 2]]


def test_gradient_by_hand():
    """x = [[1, 2, 3], [4, 5, 6], [7, 8, 9]], one weight in the middle, one at a corner."""
    cell = Conv2d(1, 1, 3, padding=1, has_bias=True, bias_init="zeros")
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, 1], weight[0, 0, 2, 2] = 1, -1  # a pixel less the one below and to the right
    cell.weight.set_data(ms.Tensor(weight))
    x = ms.Tensor(np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3))
    expected = [[1 - 5, 2 - 6, 3], [4 - 8, 5 - 9, 6], [7, 8, 9]]
    np.testing.assert_allclose(cell(x).asnumpy()[0, 0], expected, atol=1e-5)

    def total(x):
        return cell(x).sum()

    by_input, (by_weight, by_bias) = ms.grad(total, 0, cell.trainable_params())(x)
    expected = [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(by_input.asnumpy()[0, 0], expected, atol=1e-5)
    expected = [[12, 21, 16], [27, 45, 33], [24, 39, 28]]  # of the 3x3 neighbours, all sums
    np.testing.assert_allclose(by_weight.asnumpy()[0, 0], expected, rtol=1e-5)
    assert by_bias.asnumpy().tolist() == [9]


def test_transforms():
    """Two polynomials of degrees 3 and 2: A^T ((G g) (B^T d)) convolves, in exact arithmetic."""
    a, g, b = transforms(POINTS)
    signal, kernel = np.array([3.0, -1, 4, 1, -5, 9]), np.array([2.0, 7, -1])
    expected = [
        np.dot(signal[i : i + 3], kernel) for i in range(4)
    ]  # 6-7-4, -2+28-1, 8+7+5, 2-35-9
    assert expected == [-5, 25, 20, -42]
    np.testing.assert_allclose(a @ ((g @ kernel) * (b @ signal)), expected, rtol=1e-12)


# Errors of 3x3 convolutions against float64, relative to the largest value: of the values and of
# the gradients by the input and by the weights: up to 3.3e-6 when measured.
ROUNDING = 5e-6


@pytest.mark.parametrize("n,channels,side", [(1, 32, 66), (2, 64, 34), (1, 256, 18)])
def test_rounding(rng, n, channels, side):
    cell = Conv2d(channels, channels, 3)
    x = np.maximum(rng.normal(size=(n, channels, side, side)), 0)  # what follows a ReLU
    weight = rng.normal(0, 0.02, (channels, channels, 3, 3))
    dout = rng.normal(size=(n, channels, side - 2, side - 2))
    x, weight, dout = (values.astype(np.float32) for values in (x, weight, dout))
    cell.weight.set_data(ms.Tensor(weight))

    def loss(x, dout):
        y = cell(x)
        return (y * dout).sum(), y

    gradients = ms.grad(loss, 0, cell.trainable_params(), has_aux=True)
    (by_input, (by_weight,)), (y,) = gradients(ms.Tensor(x), ms.Tensor(dout))

    exact_x, exact_weight = (
        torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (x, weight)
    )
    exact = torch.nn.functional.conv2d(exact_x, exact_weight)
    (exact * torch.tensor(dout, dtype=torch.float64)).sum().backward()
    for ours, theirs in (
        (y, exact.detach()),
        (by_input, exact_x.grad),
        (by_weight, exact_weight.grad),
    ):
        assert relative(ours, theirs.numpy()) < ROUNDING


def test_elsewhere_and_in_float16_it_is_the_plain_operator(rng):
    x = ms.Tensor(rng.normal(size=(1, 4, 8, 8)).astype(np.float16))
    start = {"weight_init": "normal", "has_bias": False}
    ours, plain = Conv2d(4, 6, 3, **start), nn.Conv2d(4, 6, 3, pad_mode="valid", **start)
    plain.weight.set_data(ours.weight)
    for cell in (ours, plain):
        cell.to_float(ms.float16)
    assert np.array_equal(ours(x).asnumpy(), plain(x).asnumpy())
    with plain_operators():
        cells = Conv2d(4, 6, 3), Conv2d(4, 6, 4, 2, 1), Conv2dTranspose(4, 6)
    assert [cell.method for cell in cells] == [None] * 3


def test_small_and_large_pictures_are_not_cut_into_tiles():
    """5.5 million values: 64 channels after the first convolution, 415 pixels, batch 1."""

    def method(pixels):
        networks = build_networks(ModelConfig(width=64, blocks=1), pixels)
        return type(networks.g_ab.model[10].conv_block[1].method)

    assert (method(0), method(64**2), method(64**2 + 1)) == (Winograd, Plain, Winograd)
    assert (method(414**2), method(415**2)) == (Winograd, Unrolled)
