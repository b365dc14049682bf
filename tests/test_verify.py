"""The word on an installation, when it is sound and when it is not."""

import subprocess
import sys

import pytest
from helpers import ROOT

from cyclegan_ms import cli, verify
from cyclegan_ms.__main__ import COMMANDS


def test_a_sound_installation():
    lines = []
    assert verify.verify("CPU", lines.append)
    assert len(lines) <= 10 and lines[0].startswith("mindspore 2.") and "device CPU" in lines[1]
    assert [line.split(":")[0] for line in lines if ": sound, " in line] == [
        "operators", "first training step", "next training step", "a picture"
    ]  # fmt: skip
    # Winograd's rounding shows that it was not the same operators that were compared.
    assert 0 < float(lines[3].rsplit(" ", 1)[1]) < 1e-4
    assert lines[-2].endswith("127 x 101 pixels")
    assert lines[-1] == "the installation is sound"


def test_what_is_broken_is_named_and_the_rest_is_tried(monkeypatch):
    def broken(*_):
        raise RuntimeError("no such kernel\nat line 3")

    monkeypatch.setattr(verify, "_step", broken)
    lines = []
    assert not verify.verify("CPU", lines.append)
    assert [line.split(",")[0] for line in lines[3:7]] == [
        "operators: sound", "first training step: FAILED", "next training step: FAILED",
        "a picture: sound",
    ]  # fmt: skip
    assert lines[4].endswith("s; no such kernel")
    assert lines[-1] == "the installation is NOT sound"


@pytest.mark.quick
def test_the_list_of_commands():
    done = subprocess.run(
        [sys.executable, "-m", "cyclegan_ms"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [f"cyclegan-{name.replace('_', '-')}" for name in COMMANDS]
    assert set(COMMANDS) == set(cli.__all__) - {"command"}
    for name in COMMANDS:
        assert (ROOT / "scripts" / f"{name}.py").is_file()
        assert getattr(cli, name).__doc__.splitlines()[0] in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.quick
@pytest.mark.parametrize(
    "words,status,said",
    [
        ([], 0, "cyclegan-verify"),
        (["--version"], 0, "cyclegan_ms 0."),
        (["infer", "--version"], 0, "cyclegan-infer cyclegan_ms"),
        (["prepare-data", "--weights", "list"], 0, "style_monet"),
        (["prepare-data"], 2, "error: give either --name"),
        (["bogus"], 2, "error: there is no command bogus; it can be verify, prepare_data, train,"),
        (["trian"], 2, "error: there is no command trian; did you mean train?"),
    ],
)
def test_commands_of_the_package(words, status, said):
    command = [sys.executable, "-m", "cyclegan_ms", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
