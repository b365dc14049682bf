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
from cyclegan_ms.epoch_evaluation import EpochEvaluation
from cyclegan_ms.health import Health
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.memory import ADVICE, is_shortage, say_estimate
from cyclegan_ms.paths import check_run_folder
from cyclegan_ms.report import Progress, sample_images
from cyclegan_ms.resume import check_changes, fingerprint
from cyclegan_ms.run_folder import RunFolder
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
        training = _Training(config, output, resume)
        training.run(progress, stop, on_line)
        return training.model
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


class _Training:
    """A training that was checked and is ready to go on: its parts, and the loop over its steps.

    The arguments are those of `train`.
    """

    def __init__(self, config, output, resume):
        if config.train.tensorboard:
            require_tensorboard()
        channels = (config.model.channels_a, config.model.channels_b)
        self.config, self.output = config, output
        self.domains = load_domains(config.data, "train", channels)
        where = config.device
        device = setup_device(where.target, where.mode, where.id, config.train.seed, join=True)
        check_precision(where.amp, device.target)
        self.device = device
        self.samples = _samples(config, channels)
        self.evaluation = EpochEvaluation(config, output)
        self.per_step = config.data.batch_size * device.workers
        self.per_epoch = epoch_steps(*self.domains, self.per_step)
        self.rates = config_rates(config_values(config), self.per_epoch)
        self.last = min(len(self.rates), config.train.max_steps or len(self.rates))

        if device.leads:
            check_run_folder(output, resume)
        device.agree()  # nobody writes there before it was looked at
        state = load_resumable(config, output, self.domains, device.workers) if resume else None
        self.resumed = state.facts if state else None
        self.images = fingerprint(*self.domains)
        self.model = CycleGAN(build_networks(config.model), config, self.rates, device)
        self.folder = RunFolder(output, config, _resume_command(output, device.workers))
        self.start = state.facts["step"] if state else 0
        if device.leads:
            epochs = math.ceil((self.last - self.start) / self.per_epoch)
            self.folder.prepare(self.model.networks, epochs, state)
        if state:
            self.model.restore(state)
        ahead = f"from step {self.start + 1}" if self.start else "all"
        if self.start >= self.last:
            ahead = "none"
        log.info(
            "%d images of %s, %d of %s; %d steps an epoch, %s of %d, into %s",
            len(self.domains[0]), config.data.domains[0],
            len(self.domains[1]), config.data.domains[1], self.per_epoch,
            ahead, self.last, output,
        )  # fmt: skip

    def run(self, progress, stop, on_line):
        """Take the steps that are left."""
        if self.start >= self.last:
            log.info("nothing left to do: %d steps are done", self.start)
            return
        config, leads = self.config.train, self.device.leads
        if leads:
            say_estimate(self.config, self.device.target)
        bar = leads and (sys.stderr.isatty() if progress is None else progress)
        if self.config.device.mode == "graph" and not bar:  # which says so too
            log.info("compiling, up to a minute")
        batches = iterate(self._stream())
        saved_at = time.monotonic()
        health = Health()
        with (
            stop or StopRequest() as stop,
            Board(self.output / "tensorboard", config.tensorboard and leads, self.start) as board,
            self._progress(bar, board, on_line) as report,
        ):
            for step, batch in enumerate(report.waiting(batches), self.start + 1):
                losses = self.model.step(batch["real_a"], batch["real_b"])
                if step == self.start + 1:
                    stop.install()
                epoch, epoch_ends = self._place(step)
                report.step(epoch, losses)
                health.watch_losses(step, losses)
                if epoch_ends or step % config.log_every == 0:
                    report.write_line(epoch, step, self.rates[step - 1])
                if epoch_ends:
                    report.end_epoch(epoch, config.epochs)
                old = time.monotonic() - saved_at > 60 * config.state_minutes
                caught, old = self.device.agree(stop.caught or 0, old and leads)
                if epoch_ends or old or caught or step == self.last:
                    self._keep(step, report, health, board)
                    saved_at = time.monotonic()
                    report.restart_clock()
                if step == self.last:
                    break
                if caught:
                    self._stop(step, Signals(caught))

    def _place(self, step):
        """The epoch that a step belongs to, and whether it is the last of it."""
        return (step - 1) // self.per_epoch + 1, step % self.per_epoch == 0

    def _stream(self):
        """The images of the steps that are left."""
        config = self.config
        # The notebook's file fixes which images go together; the paper pairs them anew each epoch.
        paired = config.model.variant == "tutorial" and Path(config.data.root).is_file()
        return UnpairedStream(
            *self.domains, config.data, config.train.seed, config.train.epochs,
            self.start * self.per_step, paired, self.device.rank, self.device.workers,
        )  # fmt: skip

    def _progress(self, bar, board, on_line):
        """The report of the training, as it was when its state was saved."""
        leads, log_every = self.device.leads, self.config.train.log_every
        path = self.folder.metrics if leads else os.devnull  # only the first worker writes
        report = Progress(path, self.last, 2 * self.per_step, log_every, bar, board, on_line)
        if self.resumed and leads:
            report.restore(self.resumed["report"], self.start)
            self.evaluation.restore(self.resumed.get("evaluation", 0))
        return report

    def _keep(self, step, report, health, board):
        """Write the state after a step; at an epoch's end generators and pictures before it.

        The state comes last: whatever ends the program before, a resumed training makes the
        generators and pictures of this epoch again.
        """
        config, networks = self.config.train, self.model.networks
        epoch, epoch_ends = self._place(step)
        if self.device.leads:
            best = epoch_ends and self.evaluation.end_epoch(networks, epoch, step)
            facts = {
                "step": step,
                "report": report.state(),
                "evaluation": self.evaluation.state(),
                "config": config_values(self.config),
                "images": self.images,
                "workers": self.device.workers,
            }
        if step == self.last and not epoch_ends:
            # Not part of the state: a longer run goes on here.
            report.write_line(epoch, step, self.rates[step - 1])
            report.end_epoch(epoch, config.epochs)
        if not self.device.leads:
            self.folder.wait_for_state(step)
            return
        if epoch_ends or step == self.last:
            self.folder.save_generators(networks, epoch, best)
            draw = step == self.last or epoch % (config.sample_every or math.inf) == 0
            self.folder.report(self.model, epoch, self.samples if draw else (), health, board)
        self.folder.save_state(self.model, facts)

    def _stop(self, step, signal):
        if not self.device.leads:  # msrun kills all when one has ended: let the first speak
            time.sleep(3)
        raise TrainingStopped(
            f"stopped by {signal.name} after step {step}, all of it saved; go on with\n"
            f"{self.folder.resume_command}",
            status=128 + signal,
        )


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
