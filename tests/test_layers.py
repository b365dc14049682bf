"""One description of the layers: what is flattened, and what is refused by name."""

import numpy as np
import pytest
from helpers import GENERATORS, generator

import mindspore as ms
from mindspore import nn

from cyclegan_ms.model.layers import (
    Fork,
    InstanceNorm,
    Join,
    Pointwise,
    UnknownLayer,
    Window,
    layers_of,
)
from cyclegan_ms.translate.tiles import translate_tiled
from cyclegan_ms.weights.export import export_generator


@pytest.mark.quick
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_is_flattened(name):
    """Stem, two down, two per block, two up, end; as many forks as joins, in turn."""
    layers = layers_of(generator(name))
    blocks = GENERATORS[name].blocks
    convolutions = [layer for layer in layers if isinstance(layer, Window) and not layer.cheap]
    assert len(convolutions) == 6 + 2 * blocks
    marks = [type(layer) for layer in layers if isinstance(layer, Fork | Join)]
    assert marks == [Fork, Join] * blocks
    assert [layer.kind for layer in layers if isinstance(layer, Pointwise)][-1] == "Tanh"


@pytest.mark.quick
@pytest.mark.parametrize("name", GENERATORS)
def test_shapes_and_regions_fit_the_network(name):
    """Every layer's shape, from the picture to the picture again."""
    spec = GENERATORS[name]
    shape = (spec.in_channels, 32, 24)
    for layer in layers_of(generator(name)):
        if isinstance(layer, Window):
            shape = layer.shape(*shape)
    assert shape == (spec.out_channels, 32, 24)


class Louder(nn.Conv2d):
    """A subclass passes for its parent in `isinstance`, and computes something else."""

    def construct(self, x):
        return 2 * super().construct(x)


class Wrapped(nn.Cell):
    """A generator of somebody else's, which does not list its parts."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x):
        return self.cell(x)


class Twice(type(generator(next(iter(GENERATORS))))):
    """A generator that inherits its list of parts, which no longer is what it computes."""

    def construct(self, x):
        return super().construct(super().construct(x))


@pytest.mark.quick
@pytest.mark.parametrize(
    "cell,words",
    [
        (Louder(3, 3, 3), "Louder"),
        (Wrapped(nn.ReLU()), "Wrapped"),
        (Twice(3, 3, 4, 1), "Twice"),
        (nn.SequentialCell(nn.ReLU(), nn.GELU()), "GELU"),
        (nn.Conv2d(4, 4, 3, pad_mode="same"), "Conv2d of another form"),
        (nn.Conv2d(4, 4, 3, pad_mode="valid", dilation=2), "Conv2d of another form"),
        (nn.Conv2d(4, 4, 3, pad_mode="valid", group=2), "Conv2d of another form"),
        (nn.Conv2d(4, 4, (3, 1), pad_mode="valid"), "Conv2d of another form"),
        (nn.Conv2dTranspose(4, 4, 4, 2), "Conv2dTranspose of another form"),
        (nn.ReflectionPad2d((1, 2, 1, 1)), "ReflectionPad2d of different sides"),
    ],
)
def test_what_is_not_described_is_refused_by_name(cell, words, tmp_path):
    with pytest.raises(UnknownLayer, match=words):
        layers_of(cell)


def test_export_and_tiles_refuse_it_too(tmp_path):
    spec = next(iter(GENERATORS.values()))
    cell = Wrapped(generator(next(iter(GENERATORS))))
    with pytest.raises(UnknownLayer, match="Wrapped is not described"):
        translate_tiled(cell, np.zeros((1, 3, 16, 16), np.float32), 32)
    with pytest.raises(UnknownLayer, match="Wrapped is not described"):
        export_generator(cell, spec, tmp_path / "g.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("region", [(0, 9, 0, 7), (3, 8, 2, 6), (5, 6, 6, 7)])
def test_a_window_computes_a_region_from_its_source(region, rng):
    """Every described window, against the layer applied to everything."""
    x = rng.normal(size=(4, 12, 10)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4)))
    cells = [
        nn.Conv2d(4, 2, 3, pad_mode="pad", padding=1, has_bias=True),
        nn.Conv2d(4, 2, 3, 2, pad_mode="pad", padding=1),
        nn.Conv2d(4, 2, 5, pad_mode="valid"),
        nn.Conv2dTranspose(4, 2, 3, 2, pad_mode="same", has_bias=True),
        nn.Conv2dTranspose(4, 2, 3, 2, pad_mode="pad", padding=(1, 0, 1, 0)),
    ]
    y0, y1, x0, x1 = region
    for cell in cells:
        (layer,) = layers_of(cell)
        whole = cell(ms.Tensor(x[None])).asnumpy()[0]
        assert layer.shape(*x.shape) == whole.shape
        if y1 > whole.shape[1] or x1 > whole.shape[2]:
            continue
        top, bottom, left, right = layer.source(region)
        values = padded[:, top + 4 : bottom + 4, left + 4 : right + 4]
        assert layer.compute(values, region) == pytest.approx(whole[:, y0:y1, x0:x1], abs=1e-5)


@pytest.mark.quick
def test_instance_norm_is_one_layer():
    (layer,) = layers_of(InstanceNorm(5))
    assert (layer.channels, layer.epsilon, layer.stored()) == (5, 1e-5, None)
