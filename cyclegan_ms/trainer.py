"""The loop: batches in, generators first, then discriminators, and a run folder out."""

import logging
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals

from cyclegan_ms.checkpoint import TrainingState, load_state
from cyclegan_ms.config import Config, config_values
from cyclegan_ms.cyclegan import CycleGAN, TrainingStopped, build_networks, learning_rates
from cyclegan_ms.data import UnpairedStream, epoch_steps, iterate, load_domains
from cyclegan_ms.device import WorkerLost, check_precision, setup_device
from cyclegan_ms.evaluate import EpochEvaluation
from cyclegan_ms.health import Health
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.memory import ADVICE, is_shortage, say_estimate
from cyclegan_ms.report import Progress, sample_images
from cyclegan_ms.resume import check_changes, fingerprint
from cyclegan_ms.run_folder import RunFolder, check_output
from cyclegan_ms.tensorboard import Board, require_tensorboard

__all__ = ["load_resumable", "train"]

log = logging.getLogger(__name__)


def config_rates(values: dict, per_epoch: int) -> list[float]:
    """The learning rate of every step of a training, from its `config_values`."""
    keys = ("learning_rate", "epochs", "decay_epochs")
    return learning_rates(*(values[f"train.{key}"] for key in keys), per_epoch)


def load_resumable(config: Config, output, domains, workers: int = 1) -> TrainingState:
    """The newest whole state of a run, if a training so configured may go on from it.

    Args:
        config: the configuration to go on with.
        output: the run folder.
        domains: the images to go on with.
        workers: how many share a step.

    Raises:
        UserError: there is none, or settings or images have changed too much.
    """
    state = load_state(Path(output) / "checkpoints")
    per_epoch = epoch_steps(*domains, config.data.batch_size * workers)
    before, after = (
        config_rates(values, per_epoch)[: state.facts["step"]]
        for values in (state.facts["config"], config_values(config))
    )
    check_changes(state.facts, config, fingerprint(*domains), before == after, workers)
    return state


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
        resume: go on from the newest complete state, to the same end, bit for bit.
        progress: whether to show a progress bar; None shows one on a terminal.
        stop: a program's watch over its signals; None notes them while training.
        on_line: called with every line of metrics.jsonl once it is written, to follow along.

    Raises:
        UserError: images, folder, disk or device are not as needed; before the first step.
        TrainingStopped: diverged, interrupted by SIGINT or SIGTERM, or out of memory or disk.
    """
    output = Path(output)
    try:
        return _train(config, output, resume, progress, stop, on_line)
    except WorkerLost as error:
        way_on = _way_on(output, 2, "see the workers' logs, and start again")
        raise TrainingStopped(
            f"ERROR: a worker of this training failed or is gone ({error}); the others cannot go "
            f"on.\n{way_on}"
        ) from error
    except OSError as error:  # such as a full disk
        way_on = _way_on(output, int(os.environ.get("MS_WORKER_NUM", 1)), "start again")
        what = f"{error.filename or output}: {error.strerror or error}"
        raise TrainingStopped(f"{what}.\n{way_on}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        way_on = _way_on(output, int(os.environ.get("MS_WORKER_NUM", 1)), "start again")
        what = (str(error).strip() or "MemoryError").splitlines()[0]
        raise TrainingStopped(f"out of memory ({what}): {ADVICE}.\n{way_on}") from error


def _train(config, output, resume, progress, stop, on_line):
    if config.train.tensorboard:
        require_tensorboard()
    channels = (config.model.channels_a, config.model.channels_b)
    domains = load_domains(config.data, "train", channels)
    where = config.device
    device = setup_device(where.target, where.mode, where.id, config.train.seed, join=True)
    check_precision(where.amp, device.target)
    leads = device.leads
    samples = _samples(config, channels)
    evaluation = EpochEvaluation(config, output)
    per_step = config.data.batch_size * device.workers
    per_epoch = epoch_steps(*domains, per_step)
    epochs = config.train.epochs
    rates = config_rates(config_values(config), per_epoch)
    last = min(len(rates), config.train.max_steps or len(rates))

    if leads:
        check_output(output, resume)
    device.agree()  # nobody writes there before it was looked at
    state = load_resumable(config, output, domains, device.workers) if resume else None
    images = fingerprint(*domains)
    model = CycleGAN(build_networks(config.model), config, rates, device)
    folder = RunFolder(output, config, _resume_command(output, device.workers))
    todo = last - (state.facts["step"] if state else 0)
    if leads:
        folder.prepare(model.networks, math.ceil(todo / per_epoch), state)
    if state:
        model.restore(state)
    start = model.steps_done
    log.info(
        "%d images of %s, %d of %s; %d steps an epoch, %s of %d, into %s",
        len(domains[0]), config.data.domains[0], len(domains[1]), config.data.domains[1],
        per_epoch, f"from step {start + 1}" if start else "all", last, output,
    )  # fmt: skip
    if start >= last:
        log.info("nothing left to do: %d steps are done", start)
        return model

    if leads:
        say_estimate(config, device.target)

    # The notebook's file fixes which images go together; the paper pairs them anew each epoch.
    paired = config.model.variant == "tutorial" and Path(config.data.root).is_file()
    stream = UnpairedStream(
        *domains, config.data, config.train.seed, epochs, start * per_step, paired,
        device.rank, device.workers,
    )  # fmt: skip
    # Only the first worker writes.
    metrics = folder.metrics if leads else os.devnull
    bar = leads and (sys.stderr.isatty() if progress is None else progress)
    fixed = {"config": config_values(config), "images": images, "workers": device.workers}
    if where.mode == "graph" and not bar:  # which says so too
        log.info("compiling, up to a minute")
    saved_at = time.monotonic()
    health = Health()
    with (
        stop or StopRequest() as stop,
        Board(output / "tensorboard", config.train.tensorboard and leads, start) as board,
        Progress(
            metrics, last, 2 * per_step, config.train.log_every, bar, board, on_line
        ) as report,
    ):
        if state and leads:
            report.restore(state.facts["report"], start)
            evaluation.restore(state.facts.get("evaluation", 0))
        for step, batch in enumerate(report.waiting(iterate(stream)), start + 1):
            losses = model.step(batch["real_a"], batch["real_b"])
            if step == start + 1:
                stop.install()
            epoch = (step - 1) // per_epoch + 1
            report.step(epoch, losses)
            health.watch_losses(step, losses)
            epoch_ends = step % per_epoch == 0
            if epoch_ends or step % config.train.log_every == 0:
                report.write_line(epoch, step, rates[step - 1])
            if epoch_ends:
                report.end_epoch(epoch, epochs)
            old = time.monotonic() - saved_at > 60 * config.train.state_minutes
            caught, old = device.agree(stop.caught or 0, old and leads)
            if not (epoch_ends or old or caught or step == last):
                continue

            if leads:
                best = epoch_ends and evaluation.end_epoch(model.networks, epoch, step)
                written = {"report": report.state(), "evaluation": evaluation.state()}
                facts = {"step": step, **written, **fixed}
            if step == last and not epoch_ends:  # not part of the state: a longer run goes on here
                report.write_line(epoch, step, rates[step - 1])
                report.end_epoch(epoch, epochs)
            if leads:
                # The state comes last: whatever ends the program before, a resumed training makes
                # the generators and pictures of this epoch again.
                if epoch_ends or step == last:
                    folder.save_generators(model.networks, epoch, best)
                    draw = step == last or epoch % (config.train.sample_every or math.inf) == 0
                    folder.report(model, epoch, samples if draw else (), health, board)
                folder.save_state(model, facts)
            else:
                folder.wait_for_state(step)
            saved_at = time.monotonic()
            report.restart_clock()
            if step == last:
                break
            if caught:
                if not leads:  # msrun kills all when one has ended: let the first speak
                    time.sleep(3)
                raise TrainingStopped(
                    f"stopped by {Signals(caught).name} after step {step}, all of it saved; go on "
                    f"with\n{folder.resume_command}",
                    status=128 + caught,
                )
    return model


def _samples(config, channels):
    """The test images that are drawn as the training goes, of A and of B, (N, C, S, S) each."""
    if not config.train.sample_every:
        return ()
    tests = load_domains(config.data, "test", channels)
    return [sample_images(domain, config.data.crop_size) for domain in tests]


def _way_on(output, workers, otherwise):
    if not (output / "checkpoints" / "latest").exists():
        return f"No state was saved yet: {otherwise}."
    command = _resume_command(output, workers)
    return f"The states in {output}/checkpoints are whole; go on with\n{command}"


def _resume_command(output, workers):
    program = "python scripts/train.py"
    if workers > 1:
        program = f"bash scripts/train_distributed.sh {os.environ['MS_WORKER_NUM']}"
    return f"{program} --resume --output {output}"
