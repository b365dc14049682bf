"""What a training says about memory, before it starts and when there is not enough."""

import ctypes
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cyclegan_ms.config import Config, DataConfig, DeviceConfig, LossConfig, ModelConfig
from cyclegan_ms.training.memory import estimate, give_back, is_shortage, say_estimate

ROOT = Path(__file__).resolve().parents[1]


def config(crop=64, batch=1, width=32, blocks=6, mode="graph"):
    return Config(
        data=DataConfig(load_size=crop, crop_size=crop, batch_size=batch),
        model=ModelConfig(width=width, blocks=blocks),
        device=DeviceConfig(mode=mode),
    )


def test_holes_go_back_to_the_system():
    """Of 1,000 blocks of 100 kB every tenth stays: glibc keeps the holes until it is asked."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [library.malloc(100_000) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    for index, block in enumerate(blocks):
        if index % 10:
            library.free(block)
    before = psutil.Process().memory_info().rss
    give_back()
    assert before - psutil.Process().memory_info().rss > 70e6
    for block in blocks[::10]:
        library.free(block)


def test_estimate_by_hand():
    """Six blocks: 21 maps of 64 x 64 x 32 values, 7.8 times; the weights 17 times."""
    maps = 7.8 * 21 * 4 * 64 * 64 * 32
    weights = 17 * 4 * 2 * (180 + 6 * 288 + 675) * 32**2
    assert estimate(config()) == pytest.approx(1.5e9 + weights + maps)
    beside = 4 * 16 * 4 * 3 * 64 * 64 * 32  # of each of 4 images, the 3 others
    assert estimate(config(batch=4)) - estimate(config()) == pytest.approx(3 * maps + beside)
    assert estimate(config(crop=128)) - estimate(config()) == pytest.approx(3 * maps)
    resized = replace(config(), model=ModelConfig(width=32, blocks=6, upsample="resize"))
    assert estimate(resized) == pytest.approx(1.5e9 + weights + maps * 27 / 21)
    judged = replace(config(), loss=LossConfig(lambda_features=1.0))
    assert estimate(judged) - estimate(config()) == pytest.approx(0.4e9 + 3800 * 128**2)


@pytest.mark.parametrize(
    "crop,batch,features,peak",
    [(64, 1, 0, 1.80), (64, 1, 1, 2.26), (128, 1, 0, 2.06), (128, 1, 1, 2.51), (128, 4, 0, 3.95),
     (128, 4, 1, 4.59), (64, 8, 0, 3.30), (64, 12, 0, 4.35), (64, 24, 0, 8.66), (128, 8, 0, 7.75),
     (256, 1, 0, 3.77), (256, 1, 1, 4.40)],
)  # fmt: skip
def test_estimate_of_measured_trainings(crop, batch, features, peak):
    """Peaks in GB of four steps (two of batches above 4) and their saving: width 32, 6 blocks,
    resize; 2-core EPYC."""
    measured = replace(
        config(crop, batch),
        model=ModelConfig(width=32, blocks=6, upsample="resize"),
        loss=LossConfig(lambda_features=features),
    )
    assert estimate(measured) / 1e9 == pytest.approx(peak, rel=0.13)


@pytest.mark.parametrize("crop,peak", [(64, 2.89), (128, 3.44), (256, 5.86)])
def test_estimate_of_the_shipped_weights_recipe(crop, peak):
    """Peaks in GB of six steps and their saving: 9 blocks, all penalties; 2-core Xeon."""
    measured = replace(
        config(crop),
        model=ModelConfig(width=32, blocks=9, upsample="resize"),
        loss=LossConfig(lambda_features=1.0, lambda_saturation=10.0),
    )
    assert estimate(measured) / 1e9 == pytest.approx(peak, rel=0.13)


def test_estimate_is_said_and_a_shortage_is_a_warning(caplog):
    caplog.set_level("INFO")
    say_estimate(config(), "CPU")
    (said,) = caplog.messages
    assert said.startswith("this takes about 1.9 GB of memory, ")
    caplog.clear()
    say_estimate(config(crop=4096, batch=64), "CPU")
    assert caplog.messages[-1].startswith("that may not be enough: a smaller data.crop_size")
    caplog.clear()
    for target, mode in (("GPU", "graph"), ("CPU", "pynative")):
        say_estimate(config(mode=mode), target)
    assert not caplog.messages


@pytest.mark.parametrize(
    "error,short",
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("Malloc memory failed: size 4096"), True),
        (RuntimeError("a shape is wrong"), False),
    ],
)
def test_shortages(error, short):
    assert is_shortage(error) == short


def test_too_little_memory_is_said_in_two_lines(tmp_path):
    """Under a limit that holds MindSpore, but not a training at 512 pixels."""
    command = [sys.executable, ROOT / "scripts" / "train.py", "--config",
               ROOT / "configs" / "quickstart.yaml", "--data.root", ROOT / "data" / "sample",
               "--data.load_size=512", "--data.crop_size=512", "--model.width=64",
               "--train.max_steps=1", "--output", tmp_path / "run"]  # fmt: skip

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (6 * 10**9, 6 * 10**9))

    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert result.returncode == 1
    *_, first, second = result.stderr.splitlines()
    assert first.startswith("out of memory (")
    assert first.endswith("a smaller data.crop_size, data.batch_size or model.width needs less.")
    assert second == "No state was saved yet: start again."
    assert "Traceback" not in result.stderr
