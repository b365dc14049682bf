"""The command lines as a user types them, in processes of their own."""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, script
from PIL import Image

from cyclegan_ms import __version__, cli
from cyclegan_ms.cli import command
from cyclegan_ms.errors import program
from cyclegan_ms.training.resume import resume_command

TINY = ["--data.load_size=36", "--data.crop_size=32", "--model.width=4", "--model.blocks=1"]


def test_train_then_infer(data_root, tmp_path):
    run, output = tmp_path / "run", tmp_path / "out"
    done = script("train", f"--data.root={data_root}", *TINY, "--train.epochs=1", "--output", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"trained: {run}/g_ab.ckpt")
    assert re.search(r"epoch 1/1  g \d\.\d\d/\d\.\d\d  cycle .* s/step\n", done.stderr)
    assert "step/s" not in done.stderr  # no progress bar without a terminal

    inputs = ["--checkpoint", run, "--input", data_root / "testA", "--output", output]
    done = script("infer", *inputs, "--direction", "apple2orange")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("1 translated, 0 skipped, 0 failed, ") and last.endswith(
        f"into {output}"
    )
    assert Image.open(output / "0.png").size == Image.open(data_root / "testA/0.png").size

    again = script("infer", *inputs, "--direction", "apple2orange")
    assert again.returncode == 2 and "nothing is overwritten" in again.stderr
    (data_root / "testA" / "broken.png").write_text("x")
    inputs[-1] = tmp_path / "other"
    done = script("infer", *inputs, "--direction", "a2b")
    assert done.returncode == 1
    assert f"failed: {data_root}/testA/broken.png" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 translated, 0 skipped, 1 failed")


def test_a_folder_that_may_not_be_entered_gets_a_line(capsys):
    """Root, which tests may run as, is let in everywhere: the error is raised by hand."""

    @command
    def main(argv):
        raise PermissionError(errno.EACCES, "Permission denied", "locked/config.yaml")

    assert main([]) == 2
    assert capsys.readouterr().err == "error: locked/config.yaml: Permission denied\n"


def test_dry_run_prints_the_resolved_configuration(data_root, tmp_path):
    limited = ("--train.max_steps=7", "--dry_run")
    done = script("train", f"--data.root={data_root}", *TINY, *limited, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["model"]["blocks"] == 1
    tests = "1 test image of apple; 1 test image of orange"
    counted = f"# 3 images of apple; 2 images of orange\n# {tests}\n# 3 steps an epoch, 7 in all\n"
    assert counted in done.stdout
    assert re.search(r"takes about \d\.\d GB of memory", done.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_dry_run_reads_every_image(data_root, tmp_path):
    root = shutil.copytree(data_root, tmp_path / "photos")
    whole = (root / "trainA" / "1.png").read_bytes()
    (root / "trainA" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "testB" / "1.png").write_text("no image")
    done = script("train", f"--data.root={root}", *TINY, "--dry_run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^skipped .*/trainA/1\.png: ", done.stderr, re.MULTILINE)
    assert re.search(r"^skipped .*/testB/1\.png: ", done.stderr, re.MULTILINE)
    counts = "3 images of apple (1 broken: the next one is taken instead); 2 images of orange"
    counts += "\n# 1 test image of apple; 2 test images of orange (1 broken)"
    assert f"# {counts}\n# 3 steps an epoch, 600 in all\n" in done.stdout


@pytest.mark.parametrize(
    "name,arguments,words",
    [
        ("train", ["--train.epochs=0"], "train.epochs"),
        ("train", ["--data.root=/nowhere"], "data.root /nowhere does not exist"),
        ("train", ["--data.root={data}", *TINY, "--device.target=GPU"], "device.target GPU"),
        ("train", ["--data.root={data}", "--dry_run", "--device.target=GPU"], "device.target GPU"),
        ("train", ["--data.domains", "[day,", "night]"], "[day, (a shell wants quotes around it)"),
        ("train", ["--data.root={data}", "--output=/proc/nowhere"], "--output /proc/nowhere"),
        ("train", ["--data.root={data}", "--dry_run", "--output={data}/trainA/0.png"], "is a file"),
        ("infer", ["--direction=a2b"], "are required: --checkpoint, --input, --output"),
        ("infer", ["--checkpoint=x", "--direction=a2b", "--input={data}", "--output=o"], "x: no"),
        ("infer", ["--size=-5"], "error: --size: -5 is not at least 0"),
        ("prepare_data", [], "give either --name"),
        ("prepare_data", ["--name=aple2orange"], "did you mean apple2orange?"),
        ("prepare_data", ["--weights", "horse2zebr"], "did you mean horse2zebra?"),
        ("train", ["quickstart"], "did you mean --config quickstart?"),
        ("train", ["--data.root={data}/../dat"], "dat does not exist; did you mean "),
        (
            "train",
            ["--resume", "--output=runs/nigh"],
            "--output runs/nigh holds no run to resume",
        ),
        (
            "convert_weights",
            ["--input=apple2orange", "--output=x.ckpt"],
            "apple2orange is a folder",
        ),
        (
            "infer",
            [
                "--checkpoint=apple2orange",
                "--direction=a2b",
                "--input={data}/trainA/0.png",
                "--output=z.heic",
            ],
            "--output z.heic: .heic is not written",
        ),
    ],
)
def test_mistakes_get_a_line_or_two_and_exit_2(name, arguments, words, data_root, tmp_path):
    done = script(name, *[a.format(data=data_root) for a in arguments], cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 3


@pytest.mark.parametrize("name", [name for name in cli.__all__ if name != "command"])
def test_help_and_version(name):
    """Every command has a script of its own name."""
    done = script(name, "--help")
    assert done.returncode == 0
    wanted = "--device" if name in ("demo", "verify") else "--output"
    assert wanted in done.stdout and done.stdout.startswith(f"usage: {name}.py")
    assert "type: Literal" not in done.stdout and "()" not in done.stdout
    done = script(name, "--version")
    assert done.stdout == f"{name}.py cyclegan_ms {__version__}\n"


@pytest.mark.parametrize(
    "running,called",
    [
        ("scripts/infer.py", "python scripts/prepare_data.py"),
        ("{cwd}/scripts/train.py", "python scripts/prepare_data.py"),
        ("/elsewhere/scripts/train.py", "python /elsewhere/scripts/prepare_data.py"),
        ("/usr/bin/cyclegan-train", "cyclegan-prepare-data"),
        ("/usr/lib/python3/ipykernel_launcher.py", "cyclegan-prepare-data"),
        ("", "cyclegan-prepare-data"),
    ],
)
def test_messages_name_the_command_that_the_user_has(running, called, monkeypatch):
    monkeypatch.setattr(sys, "argv", [running.format(cwd=Path.cwd())])
    assert program("prepare_data") == called


@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_reader_that_has_enough_is_no_error(reader, data_root, tmp_path):
    command = [sys.executable, ROOT / "scripts/train.py", f"--data.root={data_root}", "--dry_run"]
    line = " ".join(shlex.quote(str(word)) for word in command)
    done = subprocess.run(
        ["bash", "-c", f"{line} | {reader}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    said = r"(using ONEDNN_.*\n)?MindSpore [\d.]+ on .*\nthis takes about .* GB are free\n"
    assert re.fullmatch(said, done.stderr)
    assert done.stdout.splitlines()[-1] in ("0", "141")


def test_letters_that_a_terminal_does_not_know(data_root, tmp_path):
    """Domains and folders in Chinese, where only ASCII can be printed."""
    run = tmp_path / "苹果"
    arguments = (f"--data.root={data_root}", *TINY, "--train.max_steps=1", "--output", run)
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, ROOT / "scripts" / "train.py", *arguments]
    domains = "--data.domains=[苹果,橙子]"
    done = subprocess.run([*command, domains], capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    assert "\\u82f9\\u679c" in done.stdout and "Traceback" not in done.stderr


def test_the_command_to_go_on_is_quoted_for_a_shell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py"])
    monkeypatch.delenv("MS_WORKER_NUM", raising=False)
    words = shlex.split(resume_command("runs/my run; rm -r x"))
    assert words == ["python", "scripts/train.py", "--resume", "--output", "runs/my run; rm -r x"]


@pytest.mark.quick
@pytest.mark.parametrize(
    "name,arguments",
    [
        ("infer", ["--checkpoint", "x", "--input", "https://example.org/a.jpg", "--output", "o"]),
        ("train", ["--data.root=s3://bucket/photos"]),
        ("convert_weights", ["--input", "https://example.org/a.pth", "--output", "o"]),
    ],
)
def test_urls_are_told_whole(name, arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        getattr(cli, name)(arguments)
    assert exit.value.code == 2
    url = next(argument for argument in arguments if "://" in argument).split("=")[-1]
    assert f"error: {url} is a URL: download it, and give the file or folder" in (
        capsys.readouterr().err
    )
