"""Shared by all tests: the device, execution modes, tiny data, whose turn it is."""

import fcntl

import numpy as np
import pytest
from PIL import Image

from cyclegan_ms.device import setup_device

setup_device("CPU", "graph", seed=0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Where several processes share the tests, one marked `alone` runs while no other does."""
    alone = item.get_closest_marker("alone")
    with open(__file__) as everybody_has_it:
        fcntl.flock(everybody_has_it, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        return (yield)


@pytest.fixture(params=["graph", "pynative"])
def mode(request):
    """Runs a test in both execution modes."""
    setup_device("CPU", request.param, seed=0)
    yield request.param
    setup_device("CPU", "graph", seed=0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    """images(n, c, size): float32 (n, c, size, size), uniform in [-1, 1]."""

    def make(n=1, c=3, size=32):
        return rng.uniform(-1, 1, (n, c, size, size)).astype(np.float32)

    return make


@pytest.fixture
def data_root(tmp_path):
    """A data folder of `draw_folder`."""
    return draw_folder(tmp_path / "data")


def draw_folder(root):
    """A data folder: 3 reddish images of A, 2 bluish of B, and one of each to test with."""
    rng = np.random.default_rng(0)
    for split, count in {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}.items():
        (root / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., 0 if split.endswith("A") else 2] += 150
            Image.fromarray(pixels).save(root / split / f"{i}.png")
    return root
