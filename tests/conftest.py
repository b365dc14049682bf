"""Shared by all tests: the device, execution modes, tiny data, whose turn it is."""

import fcntl
import gc
import os
import shutil
import signal

import numpy as np
import pytest
from helpers import draw_folder
from playwright.sync_api import sync_playwright

from cyclegan_ms.device import setup_device

setup_device("CPU", "graph", seed=0)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Under nohup or & the programs that tests start would ignore these signals, as they should.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Take what is loaded out of the garbage collections that MindSpore makes at each compilation:
    0.2 s every time."""
    gc.collect()
    gc.freeze()


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
def pynative():
    """Runs a test operator by operator, as the commands that translate do."""
    setup_device("CPU", "pynative", seed=0)
    yield
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


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a window."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    program = next(filter(None, found), None)
    assert program, "tests of pages need Chromium or Chrome, such as from apt-get install chromium"
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=quiet)
        yield browser
        browser.close()
