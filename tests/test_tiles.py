"""Tiles give what the undivided picture gives."""

import numpy as np
import pytest
from helpers import GENERATORS, generator

import mindspore as ms

from cyclegan_ms.translate.tiles import translate_tiled

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
