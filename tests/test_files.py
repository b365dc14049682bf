"""Files that appear completely or not at all, and folders with one owner."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import ROOT, draw_folder, script, tiny, wait_for_state

from cyclegan_ms.config import save_config
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import atomic_path, hold_file, hold_folder
from cyclegan_ms.training import train

HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from cyclegan_ms import files
with getattr(files, sys.argv[3])(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder():
    """Starts a process that owns a place until it is killed."""
    started = []

    def start(hold, place):
        command = [sys.executable, "-c", HOLDER, place, ROOT, hold.__name__]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.quick
def test_many_writers_of_one_folder_mix_nothing_up(tmp_path, monkeypatch):
    """Two containers can both be process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)

    def write(letter):
        for index in range(150):
            with atomic_path(tmp_path / f"{letter}{index}.txt") as temporary:
                temporary.write_text(letter)
                time.sleep(0.0001)
                assert temporary.read_text() == letter

    threads = [threading.Thread(target=write, args=[letter]) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {f"{letter}{i}.txt": letter for letter in "abcd" for i in range(150)}


@pytest.mark.quick
def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.quick
@pytest.mark.parametrize(
    "hold,name", [(hold_folder, "run"), (hold_folder, "run.2"), (hold_file, "report.json")]
)
def test_a_place_has_one_owner_until_it_dies(holder, tmp_path, hold, name):
    place = tmp_path / name
    process = holder(hold, place)
    words = rf"--output .*{name}: in use by process {process.pid} on {os.uname().nodename};"
    with pytest.raises(UserError, match=words), hold(place):
        pass
    with hold(tmp_path / "other"):  # others are free
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold(place):
        pass


@pytest.mark.quick
def test_nothing_is_left_of_a_lock(tmp_path):
    with hold_folder(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run" / ".lock").exists()
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    with hold_folder(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


@pytest.mark.quick
def test_threads_exclude_each_other_too(tmp_path):
    with (
        hold_folder(tmp_path),
        pytest.raises(UserError, match="in use by process"),
        hold_folder(tmp_path),
    ):
        pass


@pytest.mark.quick
def test_what_cannot_be_written_is_said_so():
    words = "--output /proc/nowhere: cannot be written"
    with pytest.raises(UserError, match=words), hold_folder("/proc/nowhere"):
        pass


def test_a_run_folder_has_one_training(tmp_path):
    """A second one is refused, new or resumed, and harms nothing; a killed one frees the folder."""
    root, run = draw_folder(tmp_path / "data"), tmp_path / "run"
    save_config(tiny(root, epochs=400, decay_epochs=0, state_minutes=1e-6), tmp_path / "c.yaml")
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", tmp_path / "c.yaml"]
    first = subprocess.Popen([*command, "--output", run], stderr=subprocess.PIPE, text=True)
    try:
        wait_for_state(run, first)
        for how in (("--config", tmp_path / "c.yaml"), ("--resume",)):
            second = script("train", *how, "--output", run)
            assert second.returncode == 2
            assert f"{run}: in use by process {first.pid} on " in second.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    assert script("train", "--resume", "--output", run, "--train.max_steps", 1).returncode == 0


def test_two_conversions_or_evaluations_do_not_write_the_same_files(holder, tmp_path):
    root, run = draw_folder(tmp_path / "data"), tmp_path / "run"
    train(tiny(root, epochs=1, decay_epochs=0), run)
    holder(hold_folder, tmp_path / "out")
    which = ("--checkpoint", run, "--direction", "a2b")
    done = script("infer", *which, "--input", root / "testA", "--output", tmp_path / "out")
    assert done.returncode == 2 and "out: in use by process" in done.stderr
    holder(hold_file, tmp_path / "r.json")
    done = script("evaluate", "--checkpoint", run, "--output", tmp_path / "r.json")
    assert done.returncode == 2 and "r.json: in use by process" in done.stderr
    holder(hold_file, tmp_path / "g.onnx")
    done = script("export", *which, "--format", "onnx", "--output", tmp_path / "g.onnx")
    assert done.returncode == 2 and "g.onnx: in use by process" in done.stderr


ELSEWHERE = """
import runpy, signal, sys
sys.modules["fcntl"] = None
import cyclegan_ms.files
del sys.modules["fcntl"]  # MindSpore itself needs it here
del signal.pthread_sigmask
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_system_without_locks_and_queues_of_signals(tmp_path):
    """As Windows is: every command works, and says in a line that nobody has tried it."""
    root, run = draw_folder(tmp_path / "data"), tmp_path / "run"
    train(tiny(root, epochs=1, decay_epochs=0), run)
    which = ("--checkpoint", run, "--direction", "a2b")
    for name, *arguments in (
        ("train", f"--data.root={root}", "--dry_run", "--output", tmp_path / "new"),
        ("train", "--resume", "--output", run),
        ("infer", *which, "--input", root / "testA", "--output", tmp_path / "out"),
        ("export", *which, "--format", "mindir", "--output", tmp_path / "g.mindir"),
    ):
        command = [sys.executable, "-c", ELSEWHERE, ROOT / "scripts" / f"{name}.py", *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "is untested; Linux is what is supported" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1
