"""Every command of both READMEs, run as it stands; trainings are cut short."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, draw_folder

from cyclegan_ms import cli

FILES = ("README.md", "README_CN.md")
SHORT = (  # pynative, which compiles nothing: graphs have tests of their own
    "--data.load_size 36 --data.crop_size 32 --model.width 4 --model.blocks 1 --train.max_steps 2 "
    "--train.pool_size 2 --device.mode pynative"
)
SHORT_PREPARATION = "--folder photos --mindrecord photos.mindrecord --load_size 36 --crop_size 32"


def commands(name):
    """The lines of its bash blocks, without comments."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    lines = [
        re.sub(r"\s{2,}#.*", "", line).strip() for block in blocks for line in block.split("\n")
    ]
    return [line for line in lines if line]


@pytest.mark.quick
def test_both_languages_give_the_same_commands():
    assert commands(FILES[0]) == commands(FILES[1])


@pytest.mark.quick
@pytest.mark.parametrize("name", [*FILES, "CONTRIBUTING.md", "configs/README.md"])
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / name).parent.joinpath(link).exists(), link


@pytest.mark.quick
@pytest.mark.parametrize("name", FILES)
def test_no_line_is_wider_than_a_screen(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 120 and len(lines) <= 200


def _photographs(folder, names):
    """Leave out what this checkout may hold of photographs."""
    return ["apple2orange"] if Path(folder) == ROOT / "data" else []


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with a run where the quickstart leaves it, and photographs where a user puts them."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("cyclegan_ms", "scripts", "configs", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=_photographs)
    draw_folder(folder / "photos")
    shutil.copy(folder / "photos/testA/0.png", folder / "photo.jpg")
    draw_folder(folder / "data/apple2orange")
    run(f"python scripts/train.py --config quickstart --output runs/quickstart {SHORT}", folder)
    return folder


def run(line, folder):
    """Run a line of a README in a folder, by this Python."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", line], cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done


def shortened(line):
    """A command that takes no longer than a test may.

    The quickstart's own steps are tests of their own; a download becomes the packing of a folder;
    eight NPUs become two processes on the CPU.
    """
    if "pip install" in line:  # a test of its own installs the wheel
        return "true"
    if line == "bash scripts/quickstart.sh":
        return "bash -n scripts/quickstart.sh scripts/setup_env.sh"
    if line.startswith("python scripts/prepare_data.py --name apple2orange"):
        return f"python scripts/prepare_data.py {SHORT_PREPARATION}"
    if line.startswith("bash scripts/train_distributed.sh 8 --device.target Ascend"):
        two = line.replace(" 8 ", " 2 ").replace("Ascend", "CPU")
        return f"MASTER_PORT=8177 {two} {SHORT}"
    if "scripts/train.py" in line and "--resume" in line:
        return f"{line} --train.max_steps 3"
    if "scripts/train.py" in line:
        return f"{line} {SHORT}"
    return line


def test_every_command_runs_in_the_order_of_the_readme(clone):
    for line in commands(FILES[0]):
        run(shortened(line), clone)
    assert {path.name for path in (clone / "runs/dark").glob("[!.]*")} == {"0.png", "index.html"}
    assert len(list((clone / "runs/translated").iterdir())) == 8
    assert (clone / "runs/quickstart/report.html").is_file()
    assert (clone / "runs/g_ab_again.ckpt").is_file()
    assert (clone / "runs/night/checkpoints/latest").read_text() == "step_00000003"


def test_the_python_lines_run(clone):
    """A plain script is told how a training goes; the training and the judge are cut short."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / FILES[0]).read_text(), re.M | re.S)
    (clone / "short.yaml").write_text(
        "data: {root: photos, load_size: 36, crop_size: 32}\nmodel: {width: 4, blocks: 1}\n"
        "train: {pool_size: 2}\n"
    )
    short = code.replace(
        '"quickstart", {"train.epochs": 12}', '"short.yaml", {"train.max_steps": 2}'
    )
    assert short != code
    done = run(f"python - <<'END'\n{short}\nEND", clone)
    assert (clone / "runs/orange.png").is_file()
    assert re.search(r"^epoch 1/1  g .* cycle .* d ", done.stderr, re.M)
    assert re.fullmatch(r"\d+\.\d+ dB of the cycle", done.stdout.splitlines()[-1])


@pytest.mark.quick
def test_the_flags_that_are_left_as_they_stand_are_known():
    """What the shortened lines replace is at least what the command would accept."""
    for line in commands(FILES[0]):
        words = shlex.split(line)
        if words[0] == "python":
            name = Path(words[1]).stem
            assert name in cli.__all__
            known = subprocess.run(
                [sys.executable, str(ROOT / words[1]), "--help"], capture_output=True, text=True
            ).stdout
            for word in words[2:]:
                if word.startswith("--"):
                    assert re.search(rf"{re.escape(word)}\b", known), f"{word} in {line}"
