"""What a training's lines become: curves in bounded memory, and files cut back to a state."""

import json
import logging
import time

import numpy as np
import pytest

from cyclegan_ms.config import Config, TrainConfig
from cyclegan_ms.model.losses import Term
from cyclegan_ms.training.progress import Curves, Progress, drop_lines, read_metrics
from cyclegan_ms.training.schedule import Schedule

pytestmark = pytest.mark.quick


def line(step):
    return {"epoch": 1 + step // 100, "step": step, "g_ab": float(step % 7), "learning_rate": 0.5}


def test_few_lines_are_drawn_as_they_are():
    curves, lines = Curves(), [line(step) for step in range(Curves.MOST - 1)]
    for row in lines:
        curves.add(row)
    assert curves.rows() == lines and curves.last == lines[-1]


def test_many_lines_become_means(monkeypatch):
    monkeypatch.setattr(Curves, "MOST", 8)
    curves = Curves()
    for step in range(1, 99):
        curves.add(line(step))
        assert len(curves.rows()) <= 8
    rows = curves.rows()
    assert curves.each == 16 and curves.last == line(98)
    assert [row["step"] for row in rows] == [16, 32, 48, 64, 80, 96, 98]
    assert [row["epoch"] for row in rows] == [1] * 7
    for row, first in zip(rows, range(1, 99, 16)):
        steps = np.arange(first, min(first + 16, 99))
        assert row["g_ab"] == pytest.approx((steps % 7).mean())
        assert row["learning_rate"] == 0.5


def test_terms_that_some_lines_lack():
    curves = Curves()
    curves.each = 2
    for row in ({"epoch": 1, "step": 1, "d_a": 2.0}, {"epoch": 1, "step": 2, "d_a": 4.0, "x": 1}):
        curves.add(row)
    assert curves.rows() == [{"epoch": 1, "step": 2, "d_a": 3.0}]


def test_curves_read_from_a_file_are_those_of_its_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(Curves, "MOST", 8)
    path, straight, resumed = tmp_path / "metrics.jsonl", Curves(), Curves()
    path.write_text("".join(json.dumps(line(step)) + "\n" for step in range(50)))
    for row in read_metrics(path):
        straight.add(row)
    resumed.read(path)
    assert resumed.rows() == straight.rows() and resumed.last == line(49)


@pytest.mark.parametrize("length", [5, 5000, 20000])
def test_a_file_is_cut_after_a_whole_line(tmp_path, length, caplog):
    path = tmp_path / "metrics.jsonl"
    lines = [letter.encode() * length + b"\n" for letter in "abc"]
    for size, kept in (
        (2 * length + 2, 2), (2 * length + 1, 1), (2 * length + 3, 2), (length, 0), (0, 0),
    ):  # fmt: skip
        path.write_bytes(b"".join(lines))
        drop_lines(path, size)
        assert path.read_bytes() == b"".join(lines[:kept])
    assert not caplog.records
    path.write_bytes(b"".join(lines))
    drop_lines(path, 4 * length)
    assert path.read_bytes() == b"".join(lines)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_time_left_counts_all_but_the_first_step(tmp_path, monkeypatch, caplog):
    """30 s of compilation; then two steps of 2 s and 6 s of pictures: 5 s for each of 7 more."""
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    terms = [Term("g_ab", "g", "adversarial", "generator A to B")]
    with Progress(tmp_path / "m", 0, 10, 2, 5, terms, False, lambda row: None) as progress:
        assert progress.seconds_left == 0
        for seconds, left in ((30, 0), (2, 16), (2, 14)):
            now[0] += seconds
            progress.step(1, {"g_ab": 0.5})
            assert progress.seconds_left == left
        now[0] += 6
        assert progress.seconds_left == 35
        progress.end_epoch(1, 4)
    assert caplog.messages == ["epoch 1/4  g 0.50  5.00 s/step  35 s left"]


def test_a_training_that_ends_early_has_fewer_epochs():
    config = Config(train=TrainConfig(epochs=20, max_steps=21))
    schedule = Schedule.of(config, per_epoch=10, workers=1)
    assert (schedule.last, schedule.epochs) == (21, 3)
    assert Schedule.of(Config(train=TrainConfig(epochs=20)), 10, 1).epochs == 20
