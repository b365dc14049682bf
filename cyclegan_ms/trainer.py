"""The loop: batches in, generators first, then discriminators, and a run folder out."""

import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals

import numpy as np

import mindspore as ms

from cyclegan_ms.checkpoint import (
    GeneratorSpec,
    TrainingState,
    load_state,
    save_generator,
    save_state,
)
from cyclegan_ms.config import Config, UserError, config_values, save_config
from cyclegan_ms.cyclegan import CycleGAN, Networks, TrainingStopped, build_networks, learning_rates
from cyclegan_ms.data import UnpairedStream, epoch_steps, iterate, load_domains
from cyclegan_ms.device import WorkerLost, check_precision, setup_device
from cyclegan_ms.evaluate import EpochEvaluation
from cyclegan_ms.files import atomic_path, remove_leftovers
from cyclegan_ms.health import Health
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.memory import ADVICE, is_shortage, say_estimate
from cyclegan_ms.page import environment, write_page
from cyclegan_ms.report import Progress, cycle_grid, draw_losses, read_metrics, sample_images
from cyclegan_ms.resume import check_changes, fingerprint
from cyclegan_ms.tensorboard import Board, require_tensorboard

__all__ = ["check_output", "generator_spec", "train", "translate_samples"]

log = logging.getLogger(__name__)


def check_output(output, resume: bool = False) -> Path:
    """Make the run folder, which must be new or empty, or for `resume` hold a run.

    Raises:
        UserError: it is not so, or cannot be written.
    """
    output = Path(output)
    if resume:
        if not (output / "checkpoints").is_dir():
            raise UserError(f"--output {output}: holds no run to resume")
        return output
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise UserError(
                f"--output {output} is not empty: --resume continues a run that has saved a state; "
                f"else remove it or choose another folder, nothing is overwritten"
            )
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}") from error
    return output


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
        TrainingStopped: diverged, interrupted by SIGINT or SIGTERM, or a state cannot be written.
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
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        way_on = _way_on(output, int(os.environ.get("MS_WORKER_NUM", 1)), "start again")
        what = (str(error).strip() or "MemoryError").splitlines()[0]
        raise TrainingStopped(f"out of memory ({what}): {ADVICE}.\n{way_on}") from error


def _way_on(output, workers, otherwise):
    if not (output / "checkpoints" / "latest").exists():
        return f"No state was saved yet: {otherwise}."
    command = _resume_command(output, workers)
    return f"The states in {output}/checkpoints are whole; go on with\n{command}"


def _train(config, output, resume, progress, stop, on_line):
    if config.train.tensorboard:
        require_tensorboard()
    channels = (config.model.channels_a, config.model.channels_b)
    domains = load_domains(config.data, "train", channels)
    where = config.device
    device = setup_device(where.target, where.mode, where.id, config.train.seed, join=True)
    check_precision(where.amp, device.target)
    leads = device.leads
    samples = []
    if config.train.sample_every:
        tests = load_domains(config.data, "test", channels)
        samples = [sample_images(domain, config.data.crop_size) for domain in tests]
        del tests  # a MindRecord file is held in memory
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
    todo = last - (state.facts["step"] if state else 0)
    if leads:
        _check_disk(output, model.networks, math.ceil(todo / per_epoch), config, resume)
        for folder in ("samples", "checkpoints"):
            (output / folder).mkdir(exist_ok=True)
        remove_leftovers(output)
        save_config(config, output / "config.yaml")
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
    metrics = output / "metrics.jsonl" if leads else os.devnull
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
                    _save_generators(model, config, output, epoch, best)
                    draw = step == last or epoch % (config.train.sample_every or math.inf) == 0
                    _report(model, config, output, epoch, samples if draw else (), health, board)
                _save(model, facts, output, config)
            else:
                _wait_for_state(output, step)
            saved_at = time.monotonic()
            report.restart_clock()
            if step == last:
                break
            if caught:
                if not leads:  # msrun kills all when one has ended: let the first speak
                    time.sleep(3)
                raise TrainingStopped(
                    f"stopped by {Signals(caught).name} after step {step}, all of it saved; go on "
                    f"with\n{_resume_command(output, device.workers)}",
                    status=128 + caught,
                )
    return model


def _wait_for_state(output, step, seconds=3600):
    """Wait until the first worker has saved a step.

    Not in a collective: those of the CPU give a worker up that is busy for half a minute.
    """
    latest = output / "checkpoints" / "latest"
    end = time.monotonic() + seconds
    while not latest.exists() or latest.read_text() != f"step_{step:08d}":
        if time.monotonic() > end:
            raise WorkerLost(f"the first worker has not saved step {step} in {seconds} s")
        time.sleep(0.05)


def _resume_command(output, workers):
    program = "python scripts/train.py"
    if workers > 1:
        program = f"bash scripts/train_distributed.sh {os.environ['MS_WORKER_NUM']}"
    return f"{program} --resume --output {output}"


def _save(model, facts, output, config):
    folder = output / "checkpoints"
    try:
        save_state(model.capture(facts), folder, config.train.keep)
    except OSError as error:
        raise TrainingStopped(
            f"{folder}: {error.strerror or error}; step {facts['step']} could not be saved.\n"
            f"Earlier states are whole: make room, then "
            f"{_resume_command(output, model.device.workers)}"
        ) from error


def _save_generators(model, config, output, epoch, best):
    n = model.networks
    folders = [output]
    if epoch % config.train.save_every == 0:
        folders.append(output / "checkpoints" / f"epoch_{epoch:04d}")
    if best:
        folders.append(output / "best")
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            for generator, direction in ((n.g_ab, "a2b"), (n.g_ba, "b2a")):
                spec = generator_spec(config, direction, epoch)
                save_generator(generator, spec, folder / f"g_{direction.replace('2', '')}.ckpt")
        if best:  # a run folder for infer.py and evaluate.py
            save_config(config, output / "best" / "config.yaml")
    except (OSError, RuntimeError) as error:
        raise TrainingStopped(
            f"{folder}: the generators could not be written ({error}).\nEarlier states are whole: "
            f"make room, then {_resume_command(output, model.device.workers)}"
        ) from error


def _report(model, config, output, epoch, samples, health, board):
    """Pictures and page; none of them is worth a training, so that no failure here ends it."""
    try:
        if samples:
            cycles = translate_samples(model.networks, samples)
            for name, (real, fake, _) in zip(("g_ab", "g_ba"), cycles):
                health.watch_samples(name, real, fake)
            grid = cycle_grid(cycles, config.data.domains)
            with atomic_path(output / "samples" / f"epoch_{epoch:04d}.png") as temporary:
                grid.save(temporary)
            board.picture(grid, model.steps_done)
        rows = read_metrics(output / "metrics.jsonl")
        draw_losses(rows, output / "losses.png")
        write_page(output, rows, environment(model.device))
    except Exception as error:
        log.warning("the report of epoch %d could not be made: %s", epoch, error)


def generator_spec(config: Config, direction: str, epoch: int) -> GeneratorSpec:
    """The description of a generator trained under a configuration."""
    model = config.model
    channels = (model.channels_a, model.channels_b)
    source, target = channels if direction == "a2b" else channels[::-1]
    return GeneratorSpec(
        direction=direction,
        domains=tuple(config.data.domains),
        in_channels=source,
        out_channels=target,
        width=model.width,
        blocks=model.blocks,
        variant=model.variant,
        shared_blocks=model.variant == "tutorial",
        image_size=config.data.crop_size,
        epoch=epoch,
    )


def translate_samples(networks: Networks, samples) -> list[tuple]:
    """Per direction (real, fake, reconstructed), each (N, C, S, S), of images of A and of B."""
    cycles = []
    for real, there, back in zip(
        samples, (networks.g_ab, networks.g_ba), (networks.g_ba, networks.g_ab)
    ):
        fake = np.concatenate([there(ms.Tensor(image[None])).asnumpy() for image in real])
        rec = np.concatenate([back(ms.Tensor(image[None])).asnumpy() for image in fake])
        cycles.append((real, fake, rec))
    return cycles


def _check_disk(output, networks, epochs, config, resume):
    sizes = {
        name: 4 * sum(p.size for p in cell.trainable_params())
        for name, cell in vars(networks).items()
    }
    generators = sizes["g_ab"] + sizes["g_ba"]
    channels = config.model.channels_a + config.model.channels_b
    pools = 4 * config.train.pool_size * channels * config.data.crop_size**2
    state = 3 * sum(sizes.values()) + pools  # weights and two moments
    kept = epochs // config.train.save_every + bool(config.train.evaluate_every)
    pictures = epochs * 24 * 3 * config.data.crop_size**2 if config.train.sample_every else 0
    states = 1 if resume else config.train.keep + 1  # the others are there already
    needed = states * state + (kept + 2) * generators + pictures + 20e6
    free = shutil.disk_usage(output).free
    if free < needed:
        raise UserError(
            f"--output {output}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB needed"
        )
