"""Tiles give what the undivided picture gives."""

import numpy as np
import pytest
from helpers import GENERATORS, generator

import mindspore as ms
from mindspore import nn

from cyclegan_ms.model.layers import layers_of
from cyclegan_ms.translate.tiles import _MOVE, _shares, translate_tiled

pytestmark = pytest.mark.usefixtures("pynative")

# Tiles that leave slivers, of odd sides at lower resolutions, for every generator; for one of each
# form such that divide the picture, one tile, the smallest picture, a strip.
SLIVERS = [(name, (100, 72), 36) for name in GENERATORS]
OTHERS = [
    (name, size, tile)
    for name in ("paper-3to1", "paper-resize-3to1", "tutorial-1to3-own")
    for size, tile in (((64, 96), 32), ((40, 48), 64), ((8, 8), 32), ((8, 200), 64))
]


@pytest.mark.parametrize("name,size,tile", SLIVERS + OTHERS)
def test_tiled_is_untiled(name, size, tile, rng):
    cell = generator(name)
    pixels = rng.uniform(-1, 1, (1, GENERATORS[name].in_channels, *size)).astype(np.float32)
    whole = cell(ms.Tensor(pixels)).asnumpy()
    assert whole.std() > 0.05
    assert np.abs(translate_tiled(cell, pixels, tile) - whole).max() < 1e-4


def test_tiles_on_their_own_would_not_do(rng):
    """What the sharing of statistics is for: a picture with a bright and a dark half."""
    cell = generator("paper-3to1")
    pixels = rng.uniform(-0.2, 0.2, (1, 3, 64, 128)).astype(np.float32)
    pixels[..., :64] += 0.7
    pixels[..., 64:] -= 0.7
    whole = cell(ms.Tensor(pixels)).asnumpy()
    halves = [cell(ms.Tensor(part)).asnumpy() for part in np.split(pixels, 2, axis=3)]
    assert np.abs(np.concatenate(halves, axis=3) - whole).mean() > 0.1
    tiled = translate_tiled(cell, pixels, 32)
    assert np.abs(tiled - whole).max() < 1e-4
    # No seam: neighbouring columns differ at a tile's edge as they do in the undivided picture.
    steps = [np.abs(np.diff(result, axis=3)).mean(axis=(0, 1, 2)) for result in (tiled, whole)]
    assert np.abs(steps[0] - steps[1]).max() < 1e-4


def test_work_counts_where_it_is_done():
    """Of three layers, the first is computed for the statistics, and again for the last.

    Outputs are 2, 2 and 1 maps of 8x8, as sums of 1, 0 and 2 products a value.
    """
    norm = layers_of(GENERATORS["paper-3to3"].build())[2]
    first, last = nn.Conv2d(1, 2, 1, pad_mode="valid"), nn.Conv2d(2, 1, 1, pad_mode="valid")
    one = 64 * (2 * 1 + _MOVE * (1 + 2))
    other = 64 * (1 * 2 + _MOVE * (2 + 1))
    layers = [*layers_of(first), norm, *layers_of(last)]
    said = np.array([0, one, 2 * one + other]) / (2 * one + other)
    assert _shares(layers, (1, 8, 8)) == pytest.approx(said)


def test_half_size_maps_are_computed_once():
    """The second layer halves the sides, and is kept with what it asks of the first."""
    first = nn.Conv2d(1, 2, 1, pad_mode="valid")
    half = nn.Conv2d(2, 2, 2, stride=2, pad_mode="valid")
    one = 64 * (2 * 1 + _MOVE * (1 + 2))
    two = 16 * 2 * 8 + _MOVE * (128 + 32)
    layers = [*layers_of(first), *layers_of(half), *layers_of(nn.ReLU())]
    assert _shares(layers, (1, 8, 8)) == pytest.approx([0, 1, 1])
    layers = [*layers, *layers_of(nn.Conv2d(2, 1, 1, pad_mode="valid"))]
    three = 16 * 2 + _MOVE * (32 + 16)
    said = np.array([0, one + two, one + two, one + two + three]) / (one + two + three)
    assert _shares(layers, (1, 8, 8)) == pytest.approx(said)
