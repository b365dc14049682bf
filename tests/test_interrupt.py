"""Ctrl-C at a terminal, in every command: at the start, in the middle, once and twice."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
from helpers import ROOT, draw_folder, tiny
from PIL import Image

from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.training import train
from cyclegan_ms.training.progress import read_metrics
from cyclegan_ms.training.state import load_state
from cyclegan_ms.weights.checkpoint import save_generator


class Terminal:
    """A program at a terminal of its own, which Ctrl-C is typed at."""

    def __init__(self, name, *arguments):
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
        self.end, terminal = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(terminal)
        os.set_blocking(self.end, False)
        self.text = ""

    def read(self):
        try:
            self.text += os.read(self.end, 65536).decode(errors="replace")
        except (BlockingIOError, OSError):  # nothing, or the program has ended
            time.sleep(0.01)

    def wait_for(self, happened, seconds=120):
        end = time.monotonic() + seconds
        while not happened():
            self.read()
            assert self.process.poll() is None and time.monotonic() < end, self.text
        return self

    def press(self):
        os.write(self.end, b"\x03")

    def ended(self, seconds=60):
        """Its exit status and all that it wrote."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < end, f"still running after {seconds} s: {self.text}"
        self.read()
        os.close(self.end)
        return self.process.returncode, self.text.replace("\r\n", "\n")


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory):
    spec = GeneratorSpec("a2b", ("a", "b"), width=16, blocks=6)
    path = tmp_path_factory.mktemp("g") / "g.ckpt"
    save_generator(spec.build(), spec, path)
    return path


@pytest.fixture
def infer(generator_file, tmp_path):
    """Starts the translation of thirty photographs that take a while; and where they go."""
    (tmp_path / "in").mkdir()
    for index in range(30):
        Image.new("RGB", (512, 512), (index, 99, 9)).save(tmp_path / "in" / f"{index:02d}.png")
    output = tmp_path / "out"
    places = ("--input", tmp_path / "in", "--output", output)
    return lambda *more: (
        Terminal("infer", "--checkpoint", generator_file, "--direction", "a2b", *places, *more),
        output,
    )


def test_infer_finishes_its_images_and_says_how_to_go_on(infer):
    terminal, output = infer()
    terminal.wait_for(lambda: output.exists() and len(list(output.glob("[0-9]*.png"))) > 1)
    terminal.press()
    status, text = terminal.ended()
    done = len(list(output.iterdir()))
    assert (
        status == 130
        and "finishing these images, but no large one; press again to end at once" in text
    )
    assert f"stopped: {30 - done} left; go on with --skip_existing" in text
    assert f"{done} translated, 0 skipped, 0 failed" in text and "Traceback" not in text
    status, text = infer("--skip_existing")[0].ended()
    assert status == 0 and f"{30 - done} translated, {done} skipped" in text
    assert len(list(output.iterdir())) == 30


def test_infer_ends_at_once_on_a_second(infer):
    terminal, output = infer()
    terminal.wait_for(lambda: output.exists() and len(list(output.glob("[0-9]*.png"))) > 1)
    terminal.press()
    terminal.wait_for(lambda: "press again to end at once" in terminal.text, 20)
    terminal.press()
    status, text = terminal.ended(5)
    assert status == 130 and "Traceback" not in text
    assert "finishing these images, but no large one" in text and text.endswith("ended at once\n")


@pytest.mark.parametrize("seconds", [0.7, 1.5, 3.0])
def test_infer_at_its_start(infer, seconds):
    """While it plans, imports and loads: nothing is begun, a word is all there is to say."""
    terminal, _ = infer()
    time.sleep(seconds)
    terminal.press()
    status, text = terminal.ended()
    assert status == 130 and "Traceback" not in text
    assert text.endswith("interrupted\n") or "stopped: " in text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = draw_folder(tmp_path_factory.mktemp("data"))
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(root, epochs=1, decay_epochs=0), run)
    return run


@pytest.mark.parametrize("seconds", [0.8, 2.5, 3.5])
@pytest.mark.parametrize("name", ["evaluate", "export", "convert_weights"])
def test_a_command_without_anything_to_finish(name, seconds, finished, tmp_path):
    arguments = {
        "evaluate": ("--checkpoint", finished, "--output", tmp_path / "r.json"),
        "export": ("--checkpoint", finished, "--direction", "a2b", "--format", "mindir",
                   "--output", tmp_path / "g.mindir"),
        "convert_weights": ("--input", finished / "g_ab.ckpt", "--output", tmp_path / "g.pth"),
    }[name]  # fmt: skip
    terminal = Terminal(name, *arguments)
    time.sleep(seconds)
    terminal.press()
    status, text = terminal.ended()
    assert "Traceback" not in text
    if status:  # else it was quicker
        assert status == 130 and text.endswith("interrupted\n")
        assert not list(tmp_path.iterdir())


def test_a_training_saves_when_its_terminal_is_closed(finished, tmp_path):
    run = tmp_path / "run"
    terminal = Terminal(
        "train", "--config", finished / "config.yaml", "--output", run, "--train.epochs", 400,
        "--train.state_minutes", 1e-6,
    )  # fmt: skip
    terminal.wait_for(lambda: (run / "checkpoints" / "latest").exists())
    os.close(terminal.end)
    assert terminal.process.wait(60) == 129
    step = load_state(run / "checkpoints").facts["step"]
    assert step > 1 and read_metrics(run / "metrics.jsonl")[-1]["step"] <= step


IN_A_PIPE = """
import os, signal, sys, time
from cyclegan_ms.interrupt import StopRequest

stop = StopRequest()
stop.watch("finishing")
os.close(int(sys.argv[1]))  # the reader is gone
os.kill(os.getpid(), signal.SIGHUP)
time.sleep(0.3)
print("goes nowhere")
assert stop.caught == signal.SIGHUP
os.kill(os.getpid(), signal.SIGTERM)  # and a second signal still ends it
time.sleep(5)
"""


@pytest.mark.quick
def test_a_pipe_without_a_reader():
    reader, writer = os.pipe()
    command = [sys.executable, "-c", IN_A_PIPE, str(reader)]
    process = subprocess.Popen(command, stdout=writer, stderr=writer, cwd=ROOT, pass_fds=[reader])
    os.close(reader)
    os.close(writer)
    assert process.wait(timeout=4) == 128 + signal.SIGTERM


INSTALLED = """
import os, signal, time
from cyclegan_ms.interrupt import StopRequest

with StopRequest() as stop:
    stop.install()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.1)
    print("alive", int(stop.caught))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a second ends at once
assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
"""


@pytest.mark.quick
def test_a_closed_terminal_from_python():
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "alive 1\n"), done.stderr


WATCHED = """
import os, signal, time
from cyclegan_ms.interrupt import StopRequest

stop = StopRequest()
stop.watch("finishing")
for _ in range(2):
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.2)
print("alive", int(stop.caught or 0))
"""


@pytest.mark.quick
@pytest.mark.parametrize("ignored, said", [(False, "finishing\nalive 1\n"), (True, "alive 0\n")])
def test_a_closed_terminal_ends_nothing_at_once_and_nohup_ignores_it(ignored, said):
    """A terminal that is closed may send more than one SIGHUP."""
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=ROOT, preexec_fn=lambda: signal.signal(signal.SIGHUP, handler),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, said)


def test_a_training_stopped_before_its_first_state_leaves_a_folder_to_begin_in(finished, tmp_path):
    run = tmp_path / "run"
    arguments = ("--config", finished / "config.yaml", "--output", run, "--train.epochs", 2)
    terminal = Terminal("train", *arguments)
    terminal.wait_for(lambda: (run / "metrics.jsonl").exists())
    terminal.press()
    terminal.wait_for(lambda: "press again to end at once" in terminal.text, 20)
    terminal.press()
    status, text = terminal.ended(5)
    assert status == 130 and "Traceback" not in text
    assert not list((run / "checkpoints").iterdir())
    status, text = Terminal("train", *arguments).ended(200)
    assert status == 0, text
    assert (run / "g_ab.ckpt").is_file()
