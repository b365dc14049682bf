"""Whether a folder may be trained into, and what may change when a training is resumed."""

import hashlib
import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from cyclegan_ms.config import Config, OnResume, config_values, resume_rules
from cyclegan_ms.data.domains import Domain
from cyclegan_ms.data.stream import epoch_steps
from cyclegan_ms.device import launched_workers
from cyclegan_ms.errors import UserError, or_beside, program
from cyclegan_ms.files import check_writable
from cyclegan_ms.training.schedule import rates_of
from cyclegan_ms.training.state import TrainingState, load_state

__all__ = [
    "check_changes",
    "check_run_folder",
    "fingerprint",
    "load_resumable",
    "resume_command",
]

log = logging.getLogger(__name__)


def check_run_folder(output, resume: bool = False) -> None:
    """Raise UserError unless a folder may be filled: a new or empty one, or a run to resume."""
    output = Path(output)
    try:
        if resume and not (output / "checkpoints").is_dir():
            runs = {it.parent.name: it.parent for it in output.parent.glob("*/checkpoints")}
            advice = "" if output.exists() else or_beside(output.name, runs)
            raise UserError(f"--output {output} holds no run to resume{advice}")
        if not resume and output.is_dir() and not _is_unused(output):
            raise UserError(
                f"--output {output} is not empty: --resume (in Python, resume=True) goes on with a "
                f"run that has saved a state; else choose another folder, nothing is overwritten"
            )
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}") from error
    check_writable(output)


def _is_unused(output):
    """Return whether a folder holds nothing, or what a training makes before its first state."""
    made = {"config.yaml", "metrics.jsonl", "index.html", "samples", "checkpoints", "tensorboard"}
    found = {path.name for path in output.iterdir() if path.name != ".lock"}
    kept = [path for name in ("samples", "checkpoints") for path in (output / name).glob("[!.]*")]
    return not found or ({"config.yaml", "checkpoints"} <= found <= made and not kept)


def resume_command(output) -> str:
    """Return the command that continues the run in `output`, on as many workers as now."""
    return f"{_train_command()} --resume --output {shlex.quote(str(output))}"


def _train_command():
    train, workers = program("train"), launched_workers()
    if workers > 1:
        launcher = Path(shlex.split(train)[-1]).with_name("train_distributed.sh")
        if launcher.is_file():
            train = f"bash {shlex.quote(str(launcher))} {workers}"
        else:  # installed without a checkout: by MindSpore's own launcher
            train = (
                f"msrun --worker_num={workers} --local_worker_num={workers} --join=True "
                f"$(command -v {train})"
            )
    return train


def fingerprint(*domains: Domain) -> str:
    """Return a short text that is the same for the same images in the same order.

    They are told by their names and sizes, or by checksums of a MindRecord file's rows.
    """
    names = "\n".join(name for domain in domains for name in ("", *domain.names))
    return hashlib.sha256(os.fsencode(names)).hexdigest()[:16]


def load_resumable(
    config: Config,
    output,
    domains: tuple[Domain, Domain],
    workers: int = 1,
    misfit: Callable[[TrainingState], str] = lambda state: "",
) -> TrainingState:
    """Load the newest whole state of a run, if a training so configured may go on from it.

    Args:
        config: the configuration to go on with.
        output: the run folder.
        domains: the images to go on with.
        workers: number of workers that share a step.
        misfit: says what of a state does not fit the model; nothing if all does.

    Raises:
        UserError: there is none, or settings or images have changed too much.
    """
    per_epoch = epoch_steps(*domains, config.data.batch_size * workers)
    images = fingerprint(*domains)

    def fault(state):
        if missing := {"config", "images", "workers"} - set(state.facts):
            return f"no {min(missing)}"
        before, now = (
            rates_of(values)[: -(-state.facts["step"] // per_epoch)]
            for values in (state.facts["config"], config_values(config))
        )
        # First: a changed setting, such as a width, is not the state's fault.
        done = state.facts["step"] // per_epoch
        check_changes(state.facts, config, images, before == now, done, output, workers)
        return misfit(state)

    return load_state(Path(output) / "checkpoints", fault)


def check_changes(
    facts: dict,
    config: Config,
    images: str,
    same_rates: bool,
    epochs_done: int,
    output,
    workers: int = 1,
) -> None:
    """Compare a saved state with what it is to be resumed as; log the differences.

    Which keys may change stands beside them in the configuration. Another number of workers is
    sound, up to rounding, where a step keeps its images.

    Args:
        facts: of the state; `config`, `images`, `workers` and `step` are used.
        config: the configuration to go on with.
        images: fingerprint of the images to go on with.
        same_rates: whether the steps already done had the learning rates of `config`.
        epochs_done: number of epochs that the state has finished.
        output: the run folder.
        workers: number of workers that share a step from now on.

    Raises:
        UserError: a difference that would make it another training.
    """
    after = config_values(config)
    # A key that a run's version did not have is as it was there: at its default.
    before = {**config_values(Config()), **facts["config"]}
    changed = {key for key in after if before[key] != after[key]}
    same = {OnResume.ALWAYS}
    if _same_step(facts, before, config, workers):
        same.add(OnResume.SAME_STEP)
    if images == facts["images"]:
        same.add(OnResume.SAME_IMAGES)
    if same_rates:
        same.add(OnResume.SAME_RATES)
    rules = resume_rules()
    refused = {key for key in changed if rules.get(key) not in same}
    if any(rules.get(key) is OnResume.SAME_RATES for key in refused):
        run, train = shlex.quote(str(output)), config.train
        left = max(1, train.epochs - epochs_done)
        decay = min(left, train.decay_epochs or 0)
        raise UserError(
            "--resume cannot change train.epochs or train.decay_epochs so: the learning rate of "
            f"steps already done would have been another (at step {facts['step']}).\n"
            f"A training with a schedule of its own goes on from these weights:\n"
            f"{_train_command()} --config {run}/config.yaml --output {run}_2 --train.init_from "
            f"{run} --train.epochs {left} --train.decay_epochs {decay} --train.max_steps 0"
        )
    if refused:
        listed = ", ".join(f"{key} ({before[key]} -> {after[key]})" for key in sorted(refused))
        raise UserError(f"--resume cannot change {listed}; start a new run for that")
    if images != facts["images"]:
        raise UserError(
            f"--resume: the images in data.root {config.data.root} are not those that the run "
            f"began with; restore them, or start a new run (one of version 0.1 goes on with that)"
        )
    for key in sorted(changed):
        log.info("resumed with %s %s -> %s", key, before[key], after[key])


def _same_step(facts, before, config, workers):
    """Whether the number of workers changes and a step keeps its images.

    Raises UserError where they are others.
    """
    workers_before = facts["workers"]
    if workers == workers_before:
        return False
    per_step = before["data.batch_size"] * workers_before
    if config.data.batch_size * workers != per_step:
        fit = (
            f"give --data.batch_size {per_step // workers}"
            if per_step % workers == 0
            else f"take a number of workers that divides {per_step}"
        )
        raise UserError(
            f"--resume: a step of this run has {per_step} images per domain "
            f"(data.batch_size {before['data.batch_size']} on {workers_before} workers), not "
            f"{config.data.batch_size * workers}; {fit}"
        )
    log.info("resumed on %d workers instead of %d", workers, workers_before)
    return True
