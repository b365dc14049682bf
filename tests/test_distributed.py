"""Several devices: two processes on the CPU train as one does with twice the batch."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_folder, wait_for_state
from safetensors.numpy import load_file

from cyclegan_ms.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    save_config,
)
from cyclegan_ms.errors import UserError
from cyclegan_ms.training import train
from cyclegan_ms.training.state import load_state

# Collectives on the CPU give a worker up that has had no turn for half a minute.
pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[1]

# Every worker writes down what it ended with.
WORKER = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from cyclegan_ms.config import load_config
from cyclegan_ms.training import train
from cyclegan_ms.training.state import Everything

model = train(load_config(sys.argv[1]), sys.argv[2])
state = Everything.of(model, {}).capture({"step": 0})
np.savez(f"{sys.argv[2]}-{model.device.rank}.npz", **state.arrays)
"""


def config_for(root, batch_size, **training):
    """Epochs of 2 steps of 2 images; the rate falls from the second of 3 epochs on.

    With averages, discriminators see augmented images too.
    """
    settings = {"epochs": 3, "decay_epochs": 2, "log_every": 1, "max_steps": 5, "sample_every": 0}
    settings |= {"keep": 20, "state_minutes": 1e-6}
    return Config(
        data=DataConfig(str(root), load_size=36, crop_size=32, batch_size=batch_size),
        model=ModelConfig(width=4, blocks=1),
        loss=LossConfig(diff_augment=bool(training.get("ema"))),
        train=TrainConfig(**{**settings, **training}),
    )


@pytest.fixture
def environment(tmp_path):
    """For `msrun`: this interpreter first on PATH, a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    logs = str(tmp_path / "logs")
    return {**os.environ, "PATH": path, "MASTER_PORT": str(port), "LOG_DIR": logs, "GLOG_v": "3"}


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses_of(row):
    return np.array([row[name] for name in row if name[:2] in ("g_", "d_", "cy", "id")])


def test_two_workers_are_one_with_twice_the_batch(tmp_path, environment):
    root = draw_folder(tmp_path / "images")
    two, one = tmp_path / "two", tmp_path / "one"
    save_config(config_for(root, 1, pool_size=0, ema=0.5), tmp_path / "c.yaml")
    (tmp_path / "worker.py").write_text(WORKER)
    done = subprocess.run(
        ["msrun", "--worker_num=2", "--local_worker_num=2", f"--log_dir={environment['LOG_DIR']}",
         f"--master_port={environment['MASTER_PORT']}", "--join=True",
         str(tmp_path / "worker.py"), str(tmp_path / "c.yaml"), str(two), str(ROOT)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = [np.load(f"{two}-{rank}.npz") for rank in (0, 1)]
    assert ranks[0].files == ranks[1].files
    for name in ranks[0].files:
        assert np.array_equal(ranks[0][name], ranks[1][name]), name

    train(config_for(root, 2, pool_size=0, ema=0.5), one)
    rows = [rows_of(run) for run in (two, one)]
    assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 5]  # written by one worker only
    for with_two, with_one in zip(*rows):
        assert with_two["epoch"] == with_one["epoch"]
        assert with_two["learning_rate"] == with_one["learning_rate"]
        np.testing.assert_allclose(losses_of(with_two), losses_of(with_one), rtol=1e-3)
    assert len({row["learning_rate"] for row in rows[0]}) == 3  # the decay counts global epochs

    # Adam's first moment after one step is (1 - beta1) times the gradient. A bias in front of a
    # normalisation has no gradient but rounding errors, of 1e-5 at most.
    mine, other = first_state(two), first_state(one)
    gradients = [n for n in mine if "/moment1." in n and np.linalg.norm(other[n]) > 1e-3]
    assert len(gradients) == 2 * (8 + 1) + 2 * (5 + 2)  # weights and biases of G, then of D
    for name in gradients:
        error = np.linalg.norm(mine[name] - other[name])
        assert error <= 1e-5 * np.linalg.norm(other[name]), name


def first_state(run):
    """Arrays of the state after the first step."""
    return load_file(run / "checkpoints" / "step_00000001" / "arrays.safetensors")


def start(environment, *arguments):
    script = ROOT / "scripts" / "train_distributed.sh"
    return subprocess.Popen(
        ["bash", str(script), "2", *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def worker_pid(rank, run):
    """The process of that rank that trains into `run`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        wanted = {b"MS_ROLE=MS_WORKER", f"RANK_ID={rank}".encode()}
        if str(run).encode() in arguments and wanted <= set(variables):
            return int(process.name)
    raise AssertionError("no such worker")


def test_death_of_a_worker_then_another_number_of_workers(tmp_path, environment, caplog):
    root = draw_folder(tmp_path / "images")
    run, straight = tmp_path / "run", tmp_path / "straight"
    config = config_for(root, 1, epochs=300, decay_epochs=150, max_steps=0, pool_size=3)
    save_config(config, tmp_path / "c.yaml")
    process = start(environment, "--config", tmp_path / "c.yaml", "--output", run)
    wait_for_state(run, process, beyond=2, seconds=200)
    os.kill(worker_pid(1, run), signal.SIGKILL)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "a worker of this training failed or is gone" in error
    assert f"train_distributed.sh 2 --resume --output {run}" in error

    step = load_state(run / "checkpoints").facts["step"]
    assert step >= 3
    single = replace(config, train=replace(config.train, max_steps=step + 2))
    with pytest.raises(UserError, match=r"2 images per domain .* --data.batch_size 2"):
        train(single, run, resume=True)
    doubled = replace(single, data=replace(single.data, batch_size=2))
    with caplog.at_level("INFO", "cyclegan_ms"):
        train(doubled, run, resume=True)
    assert "resumed on 1 workers instead of 2" in caplog.text

    train(doubled, straight)
    pairs = list(zip(rows_of(run), rows_of(straight)))
    assert len(pairs) == step + 2
    for row, expected in pairs[:5] + pairs[-2:]:
        np.testing.assert_allclose(losses_of(row), losses_of(expected), rtol=1e-2)


def test_a_signal_to_one_worker_stops_all_of_them(tmp_path, environment):
    root = draw_folder(tmp_path / "images")
    run = tmp_path / "run"
    save_config(config_for(root, 1, epochs=300, max_steps=0), tmp_path / "c.yaml")
    process = start(environment, "--config", tmp_path / "c.yaml", "--output", run)
    wait_for_state(run, process, beyond=1, seconds=200)
    os.kill(worker_pid(1, run), signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    step = load_state(run / "checkpoints").facts["step"]
    assert f"stopped by SIGTERM after step {step}, all of it saved" in output
    assert f"bash scripts/train_distributed.sh 2 --resume --output {run}" in output


def test_number_of_devices_is_needed(environment):
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "train_distributed.sh"), "--config", "x.yaml"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("usage:")
