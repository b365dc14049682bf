"""The benchmark runs, and its table says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cyclegan_ms import cli
from cyclegan_ms.benchmark import LABELS, markdown, measure

ROOT = Path(__file__).parents[1]


def row(subject, seconds, ratio, batch=1):
    return {
        "task": "train", "size": 128, "batch": batch, "subject": subject, "seconds": seconds,
        "ratio": ratio, "peak_gb": 1.25, "memory_ratio": 0.75, "import_s": 2.0, "first_s": 9.0,
    }  # fmt: skip


def test_table():
    report = {
        "date": "2026-11-23", "machine": "some CPU, 2 cores", "versions": {"mindspore": "2.8.0"},
        "rows": [row("cyclegan_ms", 3.0, 1.0), row("pytorch", 2.0, 1.5, batch=4)],
    }  # fmt: skip
    lines = markdown(report).splitlines()
    assert lines[0].startswith("some CPU, 2 cores; mindspore 2.8.0; 2026-11-23.")
    table = lines[2:]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]] == [
        ["training step", "128", "cyclegan_ms, Graph", "3", "", "1.2 GB", "", "11 s"],
        ["training step, batch 4", "128", "PyTorch twin", "2", "1.50", "1.2 GB", "0.75", "11 s"],
    ]
    places = [[at for at, sign in enumerate(line) if sign == "|"] for line in table]
    assert places == 4 * [places[0]]  # straight columns


def test_no_other_file_is_overwritten(tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    for output, words in (("README.json", "README.md exists"), ("b.md", "must end in .json")):
        assert cli.benchmark(["--output", str(tmp_path / output)]) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"


def test_one_that_dies_is_told_of(monkeypatch):
    monkeypatch.setitem(LABELS, "nobody", "somebody")
    said = []
    assert list(measure(["infer"], ["64", "128"], ["nobody"], 1, "CPU", said.append)) == []
    ended = "somebody ended early (status 1)"
    assert said == [f"left out infer 64: {ended}", f"left out infer 128: {ended}"]


def test_all_subjects_take_turns(tmp_path):
    command = [
        sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--sizes", "64", "--tasks", "infer",
        "--rounds", "3", "--device", "CPU", "--output", str(tmp_path / "b.json"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    assert [r["subject"] for r in report["rows"]] == [
        "cyclegan_ms", "pytorch", "tutorial", "onnxruntime",
    ]  # fmt: skip
    ours = report["rows"][0]
    for other in report["rows"]:
        ratios = sorted(a / b for a, b in zip(ours["all_seconds"], other["all_seconds"]))
        assert other["ratio"] == pytest.approx(ratios[1])
        assert other["seconds"] == sorted(other["all_seconds"])[1] > 0
        assert 0.1 < other["peak_gb"] < 20
        assert other["memory_ratio"] == ours["peak_gb"] / other["peak_gb"]
    assert (tmp_path / "b.md").read_text() == markdown(report)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2 and "b.json exists" in again.stderr
