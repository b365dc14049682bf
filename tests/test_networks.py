"""Golden sizes, instance normalisation against NumPy, independent blocks, initial weights."""

from contextlib import nullcontext

import numpy as np
import pytest

import mindspore as ms
from mindspore import nn

from cyclegan_ms.model.layers import InstanceNorm
from cyclegan_ms.model.networks import PatchGANDiscriminator, ResNetGenerator
from cyclegan_ms.model.operators import plain_operators

pytestmark = pytest.mark.quick


def count(cell):
    return sum(p.size for p in cell.trainable_params())


def test_parameter_counts():
    # Stem 9472, down 73856 + 295168, per block 2 * (256 * 256 * 9 + 256) = 1180160,
    # up 295040 + 73792, output 9411.
    assert count(ResNetGenerator(blocks=9)) == 11_378_179
    assert count(ResNetGenerator(blocks=6)) == 7_837_699
    assert count(PatchGANDiscriminator()) == 2_764_737


def test_channels_are_parameters(images):
    gray_to_color = ResNetGenerator(1, 3, width=4, blocks=1)
    assert gray_to_color(ms.Tensor(images(2, 1, 32))).shape == (2, 3, 32, 32)
    assert PatchGANDiscriminator(1, width=4)(ms.Tensor(images(1, 1, 32))).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("cell", [ResNetGenerator, PatchGANDiscriminator])
def test_impossible_sizes_are_refused(cell):
    with pytest.raises(ValueError, match="at least 1"):
        cell(width=0)


def test_generator_keeps_any_size_that_is_a_multiple_of_four(images):
    generator = ResNetGenerator(width=4, blocks=1)
    x = images(1, 3, 64)[:, :, :, :44]
    assert generator(ms.Tensor(x)).shape == (1, 3, 64, 44)


def test_discriminator_map_and_receptive_field(images):
    """256 pixels become 30x30, and one entry of the map depends on exactly 70x70 of them."""

    class Reach(nn.Cell):
        """The discriminator's convolutions alone: a normalisation sees the whole image."""

        def __init__(self):
            super().__init__()
            layers = PatchGANDiscriminator(width=2).model
            self.layers = nn.SequentialCell([c for c in layers if isinstance(c, nn.Conv2d)])

        def construct(self, x):
            return self.layers(x)

    reach = Reach()
    x = ms.Tensor(images(1, 3, 256))
    assert reach(x).shape == (1, 1, 30, 30)

    def one_entry(x):
        return reach(x)[0, 0, 15, 15]

    gradient = ms.grad(one_entry)(x).asnumpy()[0].any(0)
    assert gradient.any(0).sum() == gradient.any(1).sum() == 70


def test_blocks_have_weights_of_their_own():
    blocks = [n for n, _ in ResNetGenerator(width=4, blocks=9).parameters_and_names()]
    residual = {name.split(".")[1] for name in blocks if "conv_block" in name}
    assert residual == {str(i) for i in range(10, 19)}
    weights = dict(ResNetGenerator(width=4, blocks=2).parameters_and_names())
    first = weights["model.10.conv_block.1.weight"].asnumpy()
    assert np.abs(first - weights["model.11.conv_block.1.weight"].asnumpy()).max() > 0.01


@pytest.mark.parametrize("cell", [ResNetGenerator(width=32, blocks=2), PatchGANDiscriminator()])
def test_initial_weights(cell):
    for name, parameter in cell.parameters_and_names():
        values = parameter.asnumpy()
        if name.endswith("bias"):
            assert not values.any()
        else:
            # Standard errors of mean and deviation of n normal draws: s / sqrt(n), s / sqrt(2n).
            assert abs(values.mean()) < 4 * 0.02 / np.sqrt(values.size)
            assert abs(values.std() - 0.02) < 4 * 0.02 / np.sqrt(2 * values.size)


def normalised(x, g):
    """Instance normalisation of x in double precision, and the gradient of sum(g * output)."""
    x, g = x.astype(np.float64), g.astype(np.float64)
    axes = {"axis": (2, 3), "keepdims": True}
    deviation = np.sqrt(x.var(**axes) + 1e-5)
    y = (x - x.mean(**axes)) / deviation
    return y, (g - g.mean(**axes) - y * (g * y).mean(**axes)) / deviation


@pytest.mark.parametrize("plain", [False, True], ids=["cpu", "accelerator"])
@pytest.mark.parametrize("batch", [1, 3])
def test_instance_norm(mode, plain, batch, rng):
    """Two layers in a row, so that constants which Graph mode could share between them exist."""

    class Twice(nn.Cell):
        def __init__(self):
            super().__init__()
            self.first, self.second = InstanceNorm(5), InstanceNorm(5)

        def construct(self, x, scale, weights):
            y = self.second(self.first(x) * scale)
            return (y * weights).sum(), y

    x = (rng.normal(size=(batch, 5, 8, 6)) * 3 + 7).astype(np.float32)
    scale = rng.uniform(0.5, 2, x.shape).astype(np.float32)
    weights = rng.normal(size=x.shape).astype(np.float32)
    middle, _ = normalised(x, x)
    expected, back = normalised(middle * scale, weights)
    _, back = normalised(x, back * scale)

    for training in (True, False):
        with plain_operators() if plain else nullcontext():
            cell = Twice().set_train(training)
        assert (cell.first.normalise is None) is plain
        inputs = [ms.Tensor(v) for v in (x, scale, weights)]
        (_, y), gradient = ms.value_and_grad(cell, 0, has_aux=True)(*inputs)
        assert np.abs(y.asnumpy() - expected).max() < 1e-5
        assert np.abs(gradient.asnumpy() - back).max() < 1e-5
