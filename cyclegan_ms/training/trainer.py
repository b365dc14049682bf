"""`train`: the loop. Batches in, generators first, then discriminators, and a run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from signal import Signals

from cyclegan_ms.config import Config
from cyclegan_ms.data.domains import load_split
from cyclegan_ms.data.stream import UnpairedStream, epoch_steps, iterate
from cyclegan_ms.device import WorkerLost, check_precision, setup_device
from cyclegan_ms.errors import TrainingStopped, UserError
from cyclegan_ms.evaluate.metrics import require_skimage
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.memory import ADVICE, give_back, is_shortage
from cyclegan_ms.training.progress import telling
from cyclegan_ms.training.record import Recorder, open_record
from cyclegan_ms.training.resume import load_resumable, resume_command
from cyclegan_ms.training.schedule import Schedule
from cyclegan_ms.training.start import read_start
from cyclegan_ms.training.state import Everything
from cyclegan_ms.training.tensorboard import require_tensorboard
from cyclegan_ms.weights.imagenet import require_efficientnet

__all__ = ["require_packages", "train"]

log = logging.getLogger(__name__)

FEW_STEPS = 500
"""Number of steps below which a training is called a trial: the quickstart's drawings take 768."""


TRIM_EVERY = 50
"""Number of steps between two times that free memory goes back to the system."""

FEW_IMAGES = 50
"""Number of images of a domain below which there is advice; the quickstart has 64 drawings."""


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
            return _train(config, output, resume, progress, stop or StopRequest(), on_line)
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


def require_packages(config: Config) -> None:
    """Raise UserError unless all packages are installed that a training will need."""
    if config.train.tensorboard:
        require_tensorboard()
    if config.train.evaluate_every:
        require_skimage()
    if config.loss.lambda_features or config.train.evaluate_every:
        require_efficientnet()


def _train(config, output, resume, progress, stop, on_line):
    require_packages(config)
    root = Path(config.data.root).expanduser()
    if root.exists():  # so that the run can go on from any directory
        root = str(root.resolve())
        config = replace(config, data=replace(config.data, root=root))
    domains = load_split(config, "train")
    start_with = None if resume else read_start(config)
    if start_with:
        source = str(start_with.source)
        config = replace(config, train=replace(config.train, init_from=source))
    where = config.device
    device = setup_device(where.target, where.mode, where.id, config.train.seed, join=True)
    check_precision(where.amp, device.target)

    per_epoch = epoch_steps(*domains, config.data.batch_size * device.workers)
    schedule = Schedule.of(config, per_epoch, device.workers)
    options = (config, output, domains, device, schedule, resume, progress, on_line)
    with open_record(*options) as record:
        device.agree()  # nobody goes on before the folder was looked at
        features = config.loss.lambda_features > 0
        networks = build_networks(config.model, config.data.batch_pixels, features)
        if start_with:
            start_with.fill(networks)
        model = CycleGAN(networks, config, schedule.rates, device, per_epoch)
        state = None
        if resume:
            misfit = Everything.of(model, {}).misfit
            state = load_resumable(config, output, domains, device.workers, misfit)
        model.steps_done = start = state.facts["step"] if state else 0
        # The notebook's file fixes which images go together; the paper pairs them anew.
        paired = config.model.variant == "tutorial" and Path(config.data.root).is_file()
        stream = UnpairedStream(
            *domains, config.data, config.train.seed, config.train.epochs,
            start * schedule.per_step, paired, device.rank, device.workers,
        )  # fmt: skip
        record.prepare(model, stream, state)
        _say_plan(config, output, domains, schedule, start)
        if start < schedule.last:
            _run(model, stream, record, schedule, stop)
    return model


def _say_plan(config, output, domains, schedule, start):
    if start >= schedule.last:
        train = config.train
        limited = schedule.last < schedule.per_epoch * train.epochs
        limit = f"train.max_steps {train.max_steps}" if limited else f"train.epochs {train.epochs}"
        log.info("nothing left to do: %d steps are done, and %s ends there", start, limit)
        return
    a, b = config.data.domains
    ahead = f"from step {start + 1}" if start else "all"
    log.info(
        "%d images of %s, %d of %s; %d steps an epoch, %s of %d, into %s",
        len(domains[0]), a, len(domains[1]), b, schedule.per_epoch, ahead, schedule.last, output,
    )  # fmt: skip
    log.info("to watch it: %s", output / "index.html")
    few, name = min((len(domain), name) for domain, name in zip(domains, config.data.domains))
    free = config.model.variant == "paper" and not config.loss.diff_augment
    if few < FEW_IMAGES and free and not start:
        log.info(
            "only %d images of %s: --loss.diff_augment true helps, and so does --train.init_from "
            "with weights of a related pair", few, name,
        )  # fmt: skip
    if schedule.last < FEW_STEPS:
        log.info("only %d steps: pictures usually look right after some thousand", schedule.last)


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
