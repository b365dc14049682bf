"""TensorBoard's event files, where they are wanted."""

import struct
import sys

import pytest
from helpers import no_file_larger_than, tiny
from tensorboardX.proto.event_pb2 import Event

from cyclegan_ms.errors import UserError
from cyclegan_ms.training import train
from cyclegan_ms.training.progress import read_metrics
from cyclegan_ms.training.tensorboard import Board


def events(folder):
    """All values in the event files of a folder: (step, tag, value)."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:  # length (8 bytes), its checksum (4), the event, its checksum (4)
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            yield from ((event.step, value.tag, value) for value in event.summary.value)


def test_metrics_and_pictures(data_root, tmp_path):
    run = tmp_path / "run"
    train(tiny(data_root, tensorboard=True, max_steps=2), run)
    train(tiny(data_root, tensorboard=True, max_steps=4), run, resume=True)
    found = list(events(run / "tensorboard"))
    for row in read_metrics(run / "metrics.jsonl"):
        values = [v.simple_value for s, tag, v in found if (s, tag) == (row["step"], "loss/d_a")]
        assert values == [pytest.approx(row["d_a"])]
    pictures = [value.image for _, tag, value in found if tag == "samples"]
    assert pictures and pictures[0].width > 32


def test_without_tensorboardx(data_root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"pip install tensorboardX"):
        train(tiny(data_root, tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_failure_to_begin_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with Board(tmp_path / "file", True) as board:
        board.metrics({"epoch": 1, "step": 1, "d_a": 0.5})
    assert caplog.text.count("Could not write TensorBoard files") == 1


def test_a_full_disk_is_a_warning(tmp_path, caplog):
    with Board(tmp_path / "board", True) as board, no_file_larger_than(500):
        for step in range(100):
            board.metrics({"epoch": 1, "step": step, "d_a": 0.5})
    assert caplog.text.count("Could not write TensorBoard files") == 1
