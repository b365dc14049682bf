"""The distance of patches: by hand, as a distance, and what it says of generators."""

import numpy as np
import pytest

from cyclegan_ms.evaluate.patches import patch_distance

pytestmark = pytest.mark.quick


def fields(rng, count=20, side=32, colour=(0.0, 0.0, 0.0), coarse=4):
    """Pictures of soft blobs around a colour."""
    blobs = rng.normal(0, 0.2, (count, 3, side // coarse, side // coarse))
    blobs = blobs.repeat(coarse, 2).repeat(coarse, 3)
    return (blobs + np.array(colour)[:, None, None]).astype(np.float32)


def test_equal_sets_and_a_shift_by_hand(rng):
    """Flat pictures of 0 with noise of deviation 0.1, moved by 0.3: every value by 3 deviations.

    A projection on a unit direction u moves by 3 sum(u); the mean of |sum(u)| over random unit
    directions of D = 147 dimensions is sqrt(2 / pi), for sum(u) is as normal as it can be.
    """
    y = rng.normal(0, 0.1, (40, 3, 32, 32)).astype(np.float32)
    assert patch_distance(y, y) == 0
    moved = patch_distance(y + 0.3, y)
    # At half of the size the mean of four has half of the deviation: 6 of them. Plus the 1e-3.
    expected = np.sqrt(2 / np.pi) * (0.3 / 0.101 + 0.3 / 0.051) / 2
    assert moved == pytest.approx(expected, rel=0.05)


def test_it_grows_with_colour_and_with_texture(rng):
    target = fields(rng, colour=(0.5, 0.1, -0.5))
    same = fields(rng, colour=(0.5, 0.1, -0.5))
    half_way = fields(rng, colour=(0.3, 0.0, -0.3))
    other_colour = fields(rng, colour=(-0.1, 0.3, -0.3))
    other_texture = fields(rng, colour=(0.5, 0.1, -0.5), coarse=1)
    near, middle, far, rough = (
        patch_distance(x, target) for x in (same, half_way, other_colour, other_texture)
    )
    assert near < 0.5 * middle < 0.5 * far
    assert rough > 2 * near


def test_generators_that_change_nothing_and_that_collapse(rng):
    """The first are as far as the source domain is; one good picture for all is far as well."""
    source, target = fields(rng, colour=(0.4, -0.3, -0.4)), fields(rng, colour=(0.5, 0.1, -0.5))
    translated = source + np.array([0.1, 0.4, -0.1], np.float32)[:, None, None]
    good = patch_distance(translated, target)
    assert patch_distance(source, target) > 3 * good
    assert patch_distance(np.repeat(target[:1], 20, axis=0), target) > 2 * good


def test_the_same_twice_and_other_numbers_of_pictures(rng):
    x, y = fields(rng, 5, 48), fields(rng, 17, 48)
    assert patch_distance(x, y) == patch_distance(x, y)
    assert patch_distance(fields(rng, 3, 20)[:, :1], fields(rng, 4, 20)[:, :1]) > 0
