"""`train`: the loop. Batches in, generators first, then discriminators, and a run folder out."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from signal import Signals

from cyclegan_ms.config import Config
from cyclegan_ms.data.broken import count_broken
from cyclegan_ms.data.stream import UnpairedStream, iterate
from cyclegan_ms.device import (
    Device,
    WorkerLost,
    check_precision,
    launched_workers,
    setup_device,
)
from cyclegan_ms.errors import TrainingStopped, UserError
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.memory import ADVICE, give_back, is_shortage, say_estimate
from cyclegan_ms.training.plan import Plan
from cyclegan_ms.training.progress import telling
from cyclegan_ms.training.record import Recorder, open_record
from cyclegan_ms.training.resume import check_run_folder, load_resumable, resume_command
from cyclegan_ms.training.run_folder import RunFolder
from cyclegan_ms.training.schedule import Schedule
from cyclegan_ms.training.state import Everything, TrainingState

__all__ = ["rehearse", "train"]

TRIM_EVERY = 50
"""Number of steps between two times that free memory goes back to the system."""


def train(
    config: Config,
    output,
    resume: bool = False,
    progress: bool | None = None,
    stop: StopRequest | None = None,
    on_line: Callable[[dict], None] | None = None,
) -> CycleGAN:
    """Train as configured and fill the run folder `output`.

    Args:
        config: all settings.
        output: a new or empty folder, or the run to resume.
        resume: go on from the newest complete state, to the same end, bit for bit on a CPU.
        progress: whether to show a progress bar; None shows one on a terminal. Unless it is False,
            what happens is told on stderr where the program has set up no logging.
        stop: a program's watch over its signals; None notes them while training.
        on_line: called with every line of metrics.jsonl once it is written, to follow along.

    Raises:
        UserError: images, folder, disk or device are not as needed; before the first step.
        TrainingStopped: diverged, interrupted by a signal, or out of memory or disk.
    """
    output = Path(output)
    try:
        with telling(progress is not False):
            plan = Plan.of(config, output, resume)
            return _train(plan, progress, stop or StopRequest(), on_line)
    except WorkerLost as error:
        raise TrainingStopped(
            f"ERROR: a worker of this training failed or is gone ({error}); the others cannot go "
            f"on. See the workers' logs.\n{_way_on(output)}"
        ) from error
    except OSError as error:  # such as a full disk
        what = f"{error.filename or output}: {error.strerror or error}"
        raise TrainingStopped(f"{what}.\n{_way_on(output)}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        what = (str(error).strip() or "MemoryError").splitlines()[0]
        raise TrainingStopped(f"out of memory ({what}): {ADVICE}.\n{_way_on(output)}") from error


def rehearse(config: Config, output, resume: bool = False) -> list[str]:
    """Check all that `train` checks before its first step, and every image; write nothing.

    Returns in lines what it would train on, and how long.

    Raises:
        UserError: something is not as needed.
    """
    check_run_folder(output, resume)
    plan = Plan.of(config, Path(output), resume)
    where, workers = plan.config.device, launched_workers()
    device = replace(setup_device(where.target, where.mode, where.id), workers=workers)
    check_precision(where.amp, device.target)
    schedule = plan.schedule(workers)
    model, state = _model_of(plan, device, schedule)
    RunFolder(plan.output, plan.config).check_room(model.networks, schedule, state)
    say_estimate(config, device.target)
    sets = [(plan.domains, "image", ": the next one is taken instead")]
    if plan.samples and plan.samples is not plan.domains:
        sets.append((plan.samples, "test image", ""))
    lines = []
    for domains, what, consequence in sets:
        parts = []
        for domain, name in zip(domains, config.data.domains):
            broken = count_broken(domain, sys.stderr.isatty())
            more = f" ({broken} broken{consequence})" if broken else ""
            parts.append(f"{len(domain)} {what}{'s' * (len(domain) > 1)} of {name}{more}")
        lines.append("; ".join(parts))
    lines.append(f"{schedule.per_epoch} steps an epoch, {schedule.last} in all")
    if not plan.is_over(schedule, model.steps_done):
        ahead = f"go on from step {model.steps_done + 1} in" if resume else "write to"
        lines.append(f"would {ahead} {output}")
    return lines


def _model_of(
    plan: Plan, device: Device, schedule: Schedule
) -> tuple[CycleGAN, TrainingState | None]:
    """Build the networks as they begin, and load the state that a resumed training goes on from."""
    config = plan.config
    features = config.loss.lambda_features > 0
    networks = build_networks(config.model, config.data.batch_pixels, features)
    if plan.start:
        plan.start.fill(networks)
    model = CycleGAN(networks, config, schedule.rates, device, schedule.per_epoch)
    if not plan.resume:
        return model, None
    misfit = Everything.of(model, {}).misfit
    state = load_resumable(config, plan.output, plan.domains, device.workers, misfit)
    model.steps_done = state.facts["step"]
    return model, state


def _train(plan, progress, stop, on_line):
    config, where = plan.config, plan.config.device
    device = setup_device(where.target, where.mode, where.id, config.train.seed, join=True)
    check_precision(where.amp, device.target)
    schedule = plan.schedule(device.workers)
    with open_record(plan, device, schedule, progress, on_line) as record:
        device.agree()  # nobody goes on before the folder was looked at
        model, state = _model_of(plan, device, schedule)
        # The notebook's file fixes which images go together; the paper pairs them anew.
        paired = config.model.variant == "tutorial" and Path(config.data.root).is_file()
        stream = UnpairedStream(
            *plan.domains, config.data, config.train.seed, config.train.epochs,
            model.steps_done * schedule.per_step, paired, device.rank, device.workers,
        )  # fmt: skip
        record.prepare(model, stream, state)
        if not plan.is_over(schedule, model.steps_done):
            plan.say(schedule, model.steps_done)
            _run(model, stream, record, schedule, stop)
    return model


def _run(
    model: CycleGAN, stream: UnpairedStream, record: Recorder, schedule: Schedule, stop: StopRequest
) -> None:
    """Take the steps that are left."""
    first = model.steps_done + 1
    with stop, record:
        for step, batch in enumerate(record.waiting(_whole(stream, model, record, first)), first):
            losses = model.step(batch["real_a"], batch["real_b"])
            if step == first:
                stop.install()
            record.step(step, losses)
            caught, due = model.device.agree(stop.caught or 0, record.is_due(step))
            if caught or due:
                record.keep(step, stopping=bool(caught))
            if step % TRIM_EVERY == 0:
                give_back()
            if step == schedule.last:
                break
            if caught:
                raise TrainingStopped(
                    f"stopped by {Signals(caught).name} after step {step}, all of it saved; go on "
                    f"with\n{resume_command(record.folder.path)}",
                    status=128 + caught,
                )


def _whole(stream, model, record, first):
    """Yield the batches of a stream; save what is done if the images are gone all of a sudden."""
    try:
        yield from iterate(stream)
    except UserError as error:
        if model.steps_done < first or model.device.workers > 1:
            raise
        record.keep(model.steps_done, stopping=True)
        raise TrainingStopped(
            f"{error}\nAll of step {model.steps_done} is saved; go on with\n"
            f"{resume_command(record.folder.path)}"
        ) from error


def _way_on(output):
    if not (output / "checkpoints" / "latest").exists():
        return "No state was saved yet: start again."
    command = resume_command(output)
    return f"The states in {output}/checkpoints are whole; go on with\n{command}"
