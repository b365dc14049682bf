"""Exact resume, and states that survive whatever ends a training."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_folder, no_file_larger_than, script, wait_for_state

from cyclegan_ms.config import (
    Config,
    DataConfig,
    ModelConfig,
    TrainConfig,
    load_config,
    save_config,
)
from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.errors import TrainingStopped, UserError
from cyclegan_ms.training import train
from cyclegan_ms.training.progress import read_metrics
from cyclegan_ms.training.run_folder import RunFolder
from cyclegan_ms.training.state import TrainingState, load_state, save_state
from cyclegan_ms.weights.checkpoint import load_generator

ROOT = Path(__file__).parents[1]


def config_for(root, **training):
    """Epochs of 3 steps; the rate falls from the third of 4 epochs on; pools fill after 2 steps."""
    settings = {"epochs": 4, "decay_epochs": 2, "log_every": 2, "pool_size": 2, "sample_every": 0}
    kept = {"keep": 20, "save_every": 1}
    return Config(
        data=DataConfig(str(root), load_size=36, crop_size=32),
        model=ModelConfig(width=4, blocks=1),
        train=TrainConfig(**{**settings, **kept, **training}),
    )


def contents(run):
    """The final state and the metrics of a run, without times."""
    state = load_state(run / "checkpoints")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["step_s"], row["images_per_s"], row["wait_share"]
    return state, rows


def assert_identical(one, two):
    (state_1, rows_1), (state_2, rows_2) = contents(one), contents(two)
    assert rows_1 == rows_2
    assert state_1.facts["random"] == state_2.facts["random"]
    assert state_1.facts["step"] == state_2.facts["step"]
    assert state_1.arrays.keys() == state_2.arrays.keys()
    for name, array in state_1.arrays.items():
        assert np.array_equal(array, state_2.arrays[name]), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Twelve steps without a stop, and the images they were trained on."""
    root = draw_folder(tmp_path_factory.mktemp("images"))
    run = tmp_path_factory.mktemp("straight") / "run"
    train(config_for(root), run)
    return root, run


@pytest.fixture(scope="module")
def six_steps(straight, tmp_path_factory):
    """The first six of them: two epochs, with a state of each."""
    run = tmp_path_factory.mktemp("six_steps") / "run"
    train(config_for(straight[0], max_steps=6), run)
    return run


@pytest.fixture
def early(six_steps, tmp_path):
    """A copy of the run that ended after six steps, to go on with."""
    return shutil.copytree(six_steps, tmp_path / "early")


def shared_graphs(folder):
    """An environment in which processes share what MindSpore compiles.

    That is most of what so short a training takes. Only for trainings of the same settings:
    learning rates and weights of losses are constants of a graph.
    """
    return {**os.environ, "MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": str(folder)}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """in_process(*arguments): train as `config_for` says, in a process of its own."""
    compiled = shared_graphs(tmp_path_factory.mktemp("graphs"))

    def run(*arguments, **options):
        done = script("train", *arguments, env=compiled, **options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


@pytest.fixture
def begin(in_process, tmp_path):
    """begin(config, run): train in a process of its own."""

    def start(config, run, **options):
        save_config(config, tmp_path / "begin.yaml")
        return in_process("--config", tmp_path / "begin.yaml", "--output", run, **options)

    return start


@pytest.fixture
def go_on(in_process):
    """go_on(run): resume a run that max_steps ended, in a process of its own."""

    def resume(run, **options):
        return in_process("--resume", "--output", run, "--train.max_steps=0", **options)

    return resume


# In the middle of an epoch, at its border, and after the decay has begun.
@pytest.mark.parametrize("k", [2, 6, 10])
def test_k_steps_and_the_rest_in_another_process_are_the_straight_run(
    straight, early, begin, go_on, tmp_path, k
):
    root, whole = straight
    run = early if k == 6 else tmp_path / "run"
    if k != 6:
        begin(config_for(root, max_steps=k), run)
    said = go_on(run)
    assert f"resumed with train.max_steps {k} -> 0" in said
    assert f"from step {k + 1} of 12" in said
    assert_identical(whole, run)


def test_state_holds_everything(straight):
    arrays = contents(straight[1])[0].arrays
    names = {name.split("/")[0] for name in arrays}
    assert names == {"g_ab", "g_ba", "d_a", "d_b", "optimizer_g", "optimizer_d", "pool_a", "pool_b"}
    assert arrays["pool_a/images"].shape == (2, 3, 32, 32)
    moments = [name for name in arrays if "moment" in name]
    weights = [name for name in arrays if name.split("/")[0] in ("g_ab", "g_ba", "d_a", "d_b")]
    assert len(moments) == 2 * len(weights)
    assert arrays["optimizer_g/global_step"].item() == 12


def test_longer_training_is_sound_only_while_the_rates_agree(straight, early, tmp_path):
    root, _ = straight
    other = config_for(root, epochs=5, decay_epochs=2)
    copy = tmp_path / "copy"
    shutil.copytree(early, copy)
    assert train(other, copy, resume=True).steps_done == 15
    with pytest.raises(UserError, match="learning rate of steps already done"):
        train(config_for(root, epochs=5, decay_epochs=4), early, resume=True)


def test_settings_that_would_make_another_training_are_refused(straight, early, tmp_path, caplog):
    root, _ = straight
    before = load_config(early / "config.yaml")
    for changed, words in (
        (replace(before, loss=replace(before.loss, lambda_a=5.0)), "loss.lambda_a (10.0 -> 5.0)"),
        (replace(before, train=replace(before.train, seed=3)), "train.seed (0 -> 3)"),
        (replace(before, model=replace(before.model, width=8)), "model.width (4 -> 8)"),
    ):
        with pytest.raises(UserError) as error:
            train(changed, early, resume=True)
        assert words in str(error.value)
    images = tmp_path / "images"
    shutil.copytree(root, images)
    moved = replace(before, data=replace(before.data, root=str(images)))
    with caplog.at_level("INFO"):
        assert train(moved, early, resume=True).steps_done == 6
    assert "nothing left to do: 6 steps are done, and train.max_steps 6 ends there" in caplog.text
    (images / "trainB" / "1.png").rename(images / "trainB" / "other.png")
    with pytest.raises(UserError, match=r"data\.root"):
        train(moved, early, resume=True)


def test_an_image_found_broken_stays_out_after_a_resume(straight, tmp_path, monkeypatch):
    """The disk fails once, for longer than a second try, and has recovered before the resume."""
    root, clean = straight
    load, faults = FolderDomain.load, {}

    def moody_load(domain, index):
        if faults.get(domain.where(index)):
            faults[domain.where(index)] -= 1
            raise OSError(5, "Input/output error")
        return load(domain, index)

    def config(**training):  # one thread, for the fault to meet one pair
        made = config_for(root, **training)
        return replace(made, data=replace(made.data, workers=1))

    path = FolderDomain(root / "trainA").where(1)
    monkeypatch.setattr(FolderDomain, "load", moody_load)
    faults[path] = 2
    train(config(), tmp_path / "whole")
    faults[path] = 2
    train(config(max_steps=4), tmp_path / "resumed")
    train(config(), tmp_path / "resumed", resume=True)
    assert not faults[path]
    assert_identical(tmp_path / "whole", tmp_path / "resumed")
    states = [load_state(run / "checkpoints") for run in (clean, tmp_path / "resumed")]
    assert states[0].facts["broken"] == [[], []]
    assert states[1].facts["broken"][0][0][0] == 1
    rows = [read_metrics(run / "metrics.jsonl") for run in (clean, tmp_path / "resumed")]
    assert rows[0][-1]["cycle_a"] != rows[1][-1]["cycle_a"]


def test_nothing_to_resume(tmp_path):
    done = script("train", "--resume", "--output", tmp_path / "none")
    assert done.returncode == 2 and "holds no run to resume\n" in done.stderr
    (tmp_path / "night" / "checkpoints").mkdir(parents=True)
    done = script("train", "--resume", "--output", tmp_path / "nigh")
    assert f"nigh holds no run to resume; did you mean {tmp_path / 'night'}?" in done.stderr
    done = script("train", "--resume")
    assert done.returncode == 2 and "--resume needs --output" in done.stderr


@pytest.mark.parametrize("damage", ["train: [", "", None])
def test_a_damaged_config_file_does_not_stop_a_resume(damage, straight, early, go_on):
    """The state holds all settings."""
    _, run = straight
    settings = early / "config.yaml"
    settings.unlink() if damage is None else settings.write_text(damage)
    go_on(early)
    assert_identical(run, early)
    assert load_config(settings) == load_config(run / "config.yaml")


def test_a_run_goes_on_from_another_directory(straight, begin, go_on, tmp_path):
    root, run = straight
    (tmp_path / "here").mkdir()
    shutil.copytree(root, tmp_path / "here" / "images")
    begin(config_for("images", max_steps=6), "run", cwd=tmp_path / "here")
    go_on("here/run", cwd=tmp_path)
    assert_identical(run, tmp_path / "here" / "run")


# --------------------------------------------------------------------- states on the disk


def state_at(step, value=0.0):
    return TrainingState({"x": np.full(1000, value, np.float32)}, {"step": step})


def test_rotation_and_latest(tmp_path):
    for step in (1, 2, 3):
        save_state(state_at(step, step), tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "latest",
        "step_00000002",
        "step_00000003",
    ]
    assert (tmp_path / "latest").read_text() == "step_00000003"
    assert load_state(tmp_path).arrays["x"][0] == 3


def test_rotation_never_removes_the_only_whole_state(tmp_path):
    save_state(state_at(6, 6), tmp_path, keep=2)
    save_state(state_at(9, 9), tmp_path, keep=2)
    (tmp_path / "step_00000009" / "arrays.safetensors").write_bytes(b"damaged")
    save_state(state_at(7, 7), tmp_path, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step_00000007"]
    assert load_state(tmp_path).facts["step"] == 7


@pytest.mark.parametrize("damage", ["truncated", "edited", "missing", "facts"])
def test_a_damaged_state_is_passed_over_with_a_warning(damage, tmp_path, caplog):
    for step in (1, 2):
        save_state(state_at(step, step), tmp_path, keep=2)
    arrays = tmp_path / "step_00000002" / "arrays.safetensors"
    data = bytearray(arrays.read_bytes())
    if damage == "truncated":
        arrays.write_bytes(data[:-100])
    elif damage == "edited":
        data[-1] ^= 1
        arrays.write_bytes(data)
    elif damage == "missing":
        arrays.unlink()
    else:
        (tmp_path / "step_00000002" / "facts.json").write_text('{"step": 9}')
    assert load_state(tmp_path).facts["step"] == 1
    assert "passed over" in caplog.text and "step_00000002" in caplog.text
    save_state(state_at(2, 2), tmp_path, keep=2)  # and is replaced when its step comes again
    assert load_state(tmp_path).facts["step"] == 2


def test_no_whole_state(tmp_path):
    with pytest.raises(UserError, match="resume from; remove the run folder and start again"):
        load_state(tmp_path / "checkpoints")
    (tmp_path / "g_ab.ckpt").touch()  # weights of a first epoch, whose state was not written
    with pytest.raises(UserError, match=f"start another run, .* --train.init_from {tmp_path}$"):
        load_state(tmp_path / "checkpoints")


def test_a_full_disk_leaves_the_last_state(tmp_path):
    save_state(state_at(1, 1), tmp_path, keep=2)
    with no_file_larger_than(2000), pytest.raises(OSError):
        save_state(state_at(2, 2), tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step_00000001"]
    assert load_state(tmp_path).facts["step"] == 1


def test_a_training_that_cannot_save_says_where_and_how_to_go_on(straight, early, go_on):
    root, run = straight
    folder = early / "checkpoints"
    size = (folder / "step_00000006" / "arrays.safetensors").stat().st_size
    with no_file_larger_than(size - 100), pytest.raises(TrainingStopped) as stop:
        train(config_for(root), early, resume=True)
    assert str(folder) in str(stop.value) and "--resume" in str(stop.value)
    assert stop.value.status == 1
    go_on(early)
    assert_identical(run, early)


def test_a_full_disk_for_metrics_ends_with_a_word(straight, tmp_path, monkeypatch):
    """/dev/full takes no byte."""
    monkeypatch.setattr(RunFolder, "metrics", Path("/dev/full"))
    with pytest.raises(TrainingStopped) as stop:
        train(config_for(straight[0]), tmp_path / "run")
    expected = f"{tmp_path}/run: No space left on device.\nNo state was saved yet: start again."
    assert str(stop.value) == expected


def lost_array(state):
    del state.arrays["d_a/model.2.weight"]


def other_shape(state):
    name = next(name for name in state.arrays if name.startswith("optimizer_g/moment1"))
    state.arrays[name] = state.arrays[name][:1]


def lost_streams(state):
    del state.facts["random"]


def lost_settings(state):
    del state.facts["config"]


@pytest.mark.parametrize("damage", [lost_array, other_shape, lost_streams, lost_settings])
def test_a_state_with_a_right_checksum_that_lacks_something(damage, straight, early, go_on):
    """It is passed over for the one before."""
    _, run = straight
    state = load_state(early / "checkpoints")
    damage(state)
    shutil.rmtree(early / "checkpoints" / "step_00000006")
    save_state(state, early / "checkpoints", keep=20)
    said = go_on(early)
    assert "passed over the state of step 6: damaged (" in said
    assert "from step 4 of 12" in said
    assert_identical(run, early)


def test_latest_names_the_state_that_was_resumed_from(straight, early):
    """Other workers wait until it names a step: not that of a damaged state."""
    latest = early / "checkpoints" / "latest"
    assert latest.read_text() == "step_00000006"
    (early / "checkpoints" / "step_00000006" / "facts.json").write_text("{}")
    seen = []
    train(
        config_for(straight[0], max_steps=6), early, resume=True,
        on_line=lambda row: seen.append(latest.read_text()),
    )  # fmt: skip
    assert seen[0] == "step_00000003" and latest.read_text() == "step_00000006"


def test_generators_are_written_before_the_state_of_their_epoch(six_steps):
    """So that no state counts an epoch as done whose files are missing."""
    state = six_steps / "checkpoints" / "step_00000006"
    for generators in (six_steps, six_steps / "checkpoints" / "epoch_0002"):
        file = generators / "g_ab.ckpt"
        assert file.stat().st_mtime_ns <= (state / "facts.json").stat().st_mtime_ns


def test_generators_and_pictures_come_with_the_states_of_a_long_epoch(straight, tmp_path):
    run, seen = tmp_path / "run", []

    def look(row):
        if row["step"] == 2:  # of 3; a state is saved after every step
            seen.extend(str(path.relative_to(run)) for path in run.rglob("*.*"))
            seen.append(load_generator(run / "g_ab.ckpt")[1].epoch)
            # The state came first: whoever stops a training may have no patience for the rest.
            state = run / "checkpoints" / "step_00000001" / "facts.json"
            assert state.stat().st_mtime_ns <= (run / "g_ab.ckpt").stat().st_mtime_ns

    config = config_for(straight[0], state_minutes=1e-6, log_every=1, max_steps=3, sample_every=1)
    train(config, run, on_line=look)
    assert {"g_ab.ckpt", "g_ba.ckpt", "samples/epoch_0001.png", "index.html", 1} <= set(seen)
    assert not any("epoch_0001/" in str(it) for it in seen)  # kept when the epoch has ended
    assert (run / "checkpoints" / "epoch_0001" / "g_ab.ckpt").is_file()


def test_states_at_the_end_of_epochs_only(straight, tmp_path):
    """A state of no age that is old enough: the other zeros turn something off, too."""
    config = config_for(straight[0], state_minutes=0.0, epochs=2, keep=9, sample_every=0)
    train(config, tmp_path / "run")
    states = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*"))
    assert states == [f"step_{step:08d}" for step in (3, 6)]


def test_copies_of_states_stay(tmp_path):
    for step in (1, 2):
        save_state(TrainingState({}, {"step": step}), tmp_path, keep=1)
        shutil.copytree(tmp_path / f"step_{step:08d}", tmp_path / f"step_{step:08d}_good")
    save_state(TrainingState({}, {"step": 3}), tmp_path, keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {
        "step_00000001_good", "step_00000002_good", "step_00000003", "latest",
    }  # fmt: skip
    assert load_state(tmp_path).facts["step"] == 3


def test_lost_metrics_and_leftovers_do_not_disturb(early, go_on):
    """As after a power failure: lines lost, half-written files about."""
    metrics = early / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-20])
    (early / "samples").mkdir(exist_ok=True)
    (early / "samples" / ".epoch_0001.99.tmp.png").write_text("half")
    (early / "checkpoints" / ".step_00000002.tmp").mkdir()
    theirs = early / "translated" / ".1f.tmp.mp4"  # of a translation that goes on
    theirs.parent.mkdir()
    theirs.write_text("half")
    said = go_on(early)
    assert "lines are missing" in said
    assert "could not be made" not in said
    assert [row["step"] for row in contents(early)[1]] == [2, 3, 4, 8, 9, 10, 12]
    assert list(early.rglob(".*")) == [theirs]


def test_dry_run_of_a_resume_checks_the_changes(straight, early):
    root, _ = straight
    resume = ("--resume", "--dry_run", "--output", early)
    done = script("train", *resume)
    assert done.returncode == 0 and done.stdout.endswith(", 6 in all\n")
    assert "nothing left to do: 6 steps are done, and train.max_steps 6 ends there" in done.stderr
    done = script("train", *resume, "--train.max_steps=12")
    assert done.returncode == 0 and "12 in all\n# would go on from step 7 in " in done.stdout
    done = script("train", *resume, "--loss.lambda_a=5")
    assert done.returncode == 2 and "cannot change loss.lambda_a (10.0 -> 5.0)" in done.stderr
    done = script("train", "--dry_run", f"--data.root={root}", "--output", early)
    assert done.returncode == 2 and "is not empty" in done.stderr


# ----------------------------------------------------------------------------- interruptions


def start_training(root, run, *arguments, **options):
    config = config_for(root, epochs=40, decay_epochs=20, state_minutes=1e-6, keep=2)
    path = run.with_suffix(".yaml")
    if not path.exists():
        save_config(config, path)
    how = ["--resume"] if (run / "config.yaml").exists() else [f"--config={path}"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *how, f"--output={run}"]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """For `start_training`."""
    return shared_graphs(tmp_path_factory.mktemp("graphs"))


@pytest.mark.parametrize(
    "number,status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_finish_the_step_save_and_say_how_to_go_on(
    straight, compiled, tmp_path, number, status
):
    root, _ = straight
    run = tmp_path / "run"
    process = start_training(root, run, env=compiled)
    wait_for_state(run, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    step = load_state(run / "checkpoints").facts["step"]
    assert f"stopped by {number.name} after step {step}, all of it saved" in error
    assert f"--resume --output {run}" in error
    assert "Traceback" not in error


def test_a_second_signal_ends_at_once(straight, tmp_path):
    root, _ = straight
    process = start_training(root, tmp_path / "run")
    time.sleep(3)  # importing and compiling takes longer
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=2)
    assert process.returncode == 130


NOTEBOOK = """
import os, signal, sys, threading, time
from pathlib import Path
from cyclegan_ms.config import load_config
from cyclegan_ms.errors import TrainingStopped
from cyclegan_ms.training import train

run = Path(sys.argv[2])

def interrupt():
    while not (run / "checkpoints" / "latest").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    train(load_config(sys.argv[1]), run)
except TrainingStopped as stop:
    print("alive:", stop)
"""


def test_signals_inside_of_a_process(straight, tmp_path):
    """As in a notebook: the training stops and is saved, the process lives on."""
    settings = tmp_path / "c.yaml"
    save_config(
        config_for(straight[0], epochs=400, decay_epochs=0, state_minutes=1e-6, keep=1), settings
    )
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, settings, run],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.startswith("alive: stopped by SIG"), done.stderr
    assert f"after step {load_state(run / 'checkpoints').facts['step']}," in done.stdout


@pytest.mark.slow
def test_twenty_kills_at_random_moments(straight, compiled, tmp_path):
    """SIGKILL during steps and saves (a state is saved after every step): the run always goes on
    from a whole state, and ends as if nothing had happened."""
    root, _ = straight
    run = tmp_path / "run"
    draw = random.Random(5)
    reached = 0
    for _ in range(20):
        process = start_training(root, run, env=compiled)
        wait_for_state(run, process, reached + draw.randrange(3))
        time.sleep(draw.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        step = load_state(run / "checkpoints").facts["step"]
        assert step >= reached
        reached = step
    process = start_training(root, run, env=compiled)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert load_state(run / "checkpoints").facts["step"] == 120

    whole = tmp_path / "whole"
    train(load_config(tmp_path / "run.yaml"), whole)
    assert_identical(whole, run)
