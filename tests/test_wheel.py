"""A wheel, installed without the checkout, is the whole product."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers import ROOT

import cyclegan_ms
from cyclegan_ms.__main__ import COMMANDS

NAMES = [name.replace("_", "-") for name in COMMANDS]
SHORT = [
    "--data.load_size=36",
    "--data.crop_size=32",
    "--model.width=4",
    "--model.blocks=1",
    "--train.max_steps=2",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The programs of a new environment with the wheel, and a folder far from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    # The dependencies of this environment, but not its own link to the checkout.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install"]
    subprocess.run([*pip, "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    place = folder / "place"
    place.mkdir()
    return programs, place


def run(installed, name, *arguments):
    programs, place = installed
    done = subprocess.run(
        [programs / f"cyclegan-{name}", *map(str, arguments)],
        cwd=place, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_there(installed, name):
    done = run(installed, name, "--help")
    assert done.returncode == 0 and f"usage: cyclegan-{name}" in done.stdout, done.stderr
    done = run(installed, name, "--version")
    assert done.returncode == 0 and cyclegan_ms.__version__ in done.stdout


def test_it_trains_translates_evaluates_and_exports(installed):
    _, place = installed
    # By transposed convolutions, as PyTorch's reference has them.
    done = run(
        installed, "train", "--config", "quickstart", "--model.upsample=transposed", *SHORT
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "64 images of apple, 60 of orange" in done.stderr
    which = ["--checkpoint", "runs/quickstart", "--direction", "apple2orange"]
    sample = next(Path(place.parent, "venv").glob("lib/*/site-packages/cyclegan_ms/shipped/sample"))
    done = run(installed, "infer", *which, "--input", sample / "testA", "--output", "out")
    assert done.returncode == 0 and done.stdout.startswith("8 translated, "), done.stderr
    done = run(installed, "evaluate", "--checkpoint", "runs/quickstart", "--output", "r.json")
    assert done.returncode == 0 and "cycle L1" in done.stdout, done.stderr
    for kind in ("onnx", "mindir"):
        done = run(installed, "export", *which, "--format", kind, "--output", f"g.{kind}")
        assert done.returncode == 0, done.stderr
    done = run(installed, "convert-weights", "--input", "runs/quickstart/g_ab.ckpt",
               "--output", "g_ab.safetensors")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_it_brings_weights_along(installed):
    _, place = installed
    picture = next(
        Path(place.parent, "venv").glob("lib/*/site-packages/cyclegan_ms/shipped/sample")
    )
    given = ["--direction", "apple2orange", "--input", picture / "testA" / "000.jpg"]
    done = run(installed, "infer", "--checkpoint", "apple2orange", *given, "--output", "orange.png")
    assert done.returncode == 0 and done.stdout.startswith("1 translated, "), done.stderr
    assert (place / "orange.png").is_file()


def test_messages_name_the_command_that_the_user_has(installed):
    done = run(installed, "train", *SHORT)
    assert done.returncode == 2
    assert "cyclegan-prepare-data --name apple2orange downloads" in done.stderr
    assert "scripts/" not in done.stderr
    done = run(installed, "train", "--config", "quikstart")
    assert done.returncode == 2 and "quikstart" in done.stderr
