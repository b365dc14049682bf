"""What watches a training and writes its run folder: one object, with a silent twin.

The first worker has a `Record`; every other worker has a `SilentRecord`, which only waits where
the first one writes.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import numpy as np

import mindspore as ms

from cyclegan_ms.config import config_values
from cyclegan_ms.data.squares import sample_images
from cyclegan_ms.data.stream import UnpairedStream
from cyclegan_ms.device import Device, environment
from cyclegan_ms.files import hold_folder
from cyclegan_ms.training.cyclegan import CycleGAN, Networks
from cyclegan_ms.training.evaluation import EpochEvaluation
from cyclegan_ms.training.health import Health
from cyclegan_ms.training.memory import say_estimate
from cyclegan_ms.training.page import Status, write_page
from cyclegan_ms.training.plan import Plan
from cyclegan_ms.training.plots import cycle_grid, draw_losses
from cyclegan_ms.training.progress import Curves, Progress
from cyclegan_ms.training.resume import check_run_folder, fingerprint, resume_command
from cyclegan_ms.training.run_folder import RunFolder
from cyclegan_ms.training.schedule import Schedule
from cyclegan_ms.training.state import Everything, Journal, TrainingState
from cyclegan_ms.training.tensorboard import Board

__all__ = ["Recorder", "open_record", "translate_samples"]

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """What the loop asks of a record; use it as a context once it is prepared."""

    folder: RunFolder

    def prepare(self, model: CycleGAN, stream: UnpairedStream, state: TrainingState | None) -> None:
        """Make the run folder ready and, where there is one, go back to a state."""

    def waiting(self, batches: Iterable) -> Iterator:
        """Yield the batches."""

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Note a finished step."""

    def is_due(self, step: int) -> bool:
        """Return whether this worker wants the step kept."""

    def keep(self, step: int, stopping: bool) -> None:
        """Save the state, generators and samples; evaluate at the end of an epoch."""

    def __enter__(self): ...

    def __exit__(self, *error): ...


@contextmanager
def open_record(
    plan: Plan,
    device: Device,
    schedule: Schedule,
    progress: bool | None = None,
    on_line: Callable[[dict], None] | None = None,
) -> Iterator[Recorder]:
    """Give the record of a training, which owns the run folder, or its silent twin.

    The twin is for workers that do not lead.

    Args:
        plan: what it is about to do.
        device: where it computes.
        schedule: its steps.
        progress: whether to show a progress bar; None shows one on a terminal.
        on_line: called with every line of metrics.jsonl.

    Raises:
        UserError: the folder cannot be used or is in use.
    """
    folder = RunFolder(plan.output, plan.config, [domain.range for domain in plan.domains])
    if device.leads:
        with hold_folder(plan.output):
            check_run_folder(plan.output, plan.resume)
            yield Record(folder, plan, device, schedule, progress, on_line)
    else:
        yield SilentRecord(folder)


class SilentRecord:
    """The record of a worker that does not lead: it writes nothing.

    Args:
        folder: where the first worker writes.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder

    def prepare(self, model: CycleGAN, stream: UnpairedStream, state: TrainingState | None) -> None:
        """Restore a state, if there is one."""
        if state:
            Everything.of(model, {"broken": stream}).restore(state)

    def waiting(self, batches: Iterable) -> Iterator:
        """Yield the batches."""
        return iter(batches)

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Do nothing."""

    def is_due(self, step: int) -> bool:
        """Return False: the first worker decides."""
        return False

    def keep(self, step: int, stopping: bool) -> None:
        """Wait until the first worker has saved the state."""
        self.folder.wait_for_state(step)

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        if kind:  # msrun kills all workers when one has ended: let the first one speak
            time.sleep(3)


class Record:
    """Watches a training, says what it sees, and writes the run folder.

    The arguments are those of `open_record`.
    """

    def __init__(self, folder: RunFolder, plan: Plan, device, schedule, progress, on_line):
        config = plan.config
        self.folder, self.config, self.device, self.schedule = folder, config, device, schedule
        # Of A and of B, (N, C, S, S) each.
        self.samples = [sample_images(domain, config.data) for domain in plan.samples or ()]
        self.evaluation = EpochEvaluation(config, plan.output, plan.domains, plan.tests)
        self.images = fingerprint(*plan.domains)
        self.bar = sys.stderr.isatty() if progress is None else progress
        self.on_line = on_line
        self.saved_at = time.monotonic()
        self.closing = ExitStack()

    def prepare(self, model: CycleGAN, stream: UnpairedStream, state: TrainingState | None) -> None:
        """Make the run folder ready and go back to the state, if there is one.

        Raises:
            UserError: the disk has no room.
        """
        schedule, train = self.schedule, self.config.train
        start = model.steps_done
        self.folder.check_room(model.networks, schedule, state)
        self.folder.prepare(state)
        self.model = model
        self.board = Board(self.folder.path / "tensorboard", train.tensorboard, start)
        self.progress = Progress(
            self.folder.metrics, start, schedule.last, 2 * schedule.per_step, train.log_every,
            model.terms, self.bar and start < schedule.last, self._line,
        )  # fmt: skip
        journals: dict[str, Journal] = {
            "report": self.progress, "evaluation": self.evaluation, "broken": stream
        }  # fmt: skip
        if start >= schedule.last:  # no step will write again what they drop
            journals = {}
        self.everything = Everything.of(model, journals)
        self.curves = Curves()
        self.health = Health(model.discriminator_loss.won)
        if state:
            self.everything.restore(state)
            self.curves.read(self.folder.metrics)

    def __enter__(self):
        self.closing.enter_context(self.board)
        self.closing.enter_context(self.progress)
        say_estimate(self.config, self.device.target)
        if self.config.device.mode == "graph" and not self.bar:  # which says so too
            log.info("compiling, up to a minute")
        self._report(self.model.steps_done, stopping=False, pictures=False)
        self.progress.restart_clock()
        self.saved_at = time.monotonic()
        return self

    def __exit__(self, *error):
        self.closing.close()

    def waiting(self, batches: Iterable) -> Iterator:
        """Yield the batches, and note how long each is waited for."""
        return self.progress.waiting(batches)

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Note a finished step: bar, alarms, and a line of metrics.jsonl if it is time."""
        epoch, ends = self.schedule.epoch(step), self.schedule.ends_epoch(step)
        self.progress.step(epoch, losses)
        self.health.watch_losses(step, losses)
        if ends or step % self.config.train.log_every == 0:
            self.progress.write_line(epoch, step, self.schedule.rate(step))
        if ends:
            self.progress.end_epoch(epoch, self.schedule.epochs)

    def is_due(self, step: int) -> bool:
        """Return whether an epoch or the training ends here, or the last state is old."""
        most = 60 * self.config.train.state_minutes
        old = most and time.monotonic() - self.saved_at > most
        return bool(old) or self.schedule.ends_epoch(step) or step == self.schedule.last

    def keep(self, step: int, stopping: bool) -> None:
        """Save the state, generators and samples. At the end of an epoch, evaluate before.

        There the state comes last: whatever ends the program before, a resumed training makes the
        generators and samples of this epoch again. Within an epoch it comes first: whoever stops
        the program may not have the patience for pictures. Other workers wait for the state, and
        hardly for anything else: with them it comes last too, and there are no pictures in a stop.

        Args:
            step: the step just finished.
            stopping: whether the program was asked to end.

        Raises:
            TrainingStopped: something cannot be written.
        """
        schedule = self.schedule
        epoch, ends = schedule.epoch(step), schedule.ends_epoch(step)
        best = ends and self.evaluation.end_epoch(self.model.shown, epoch, step)
        facts = {
            "step": step,
            **self.everything.written(),
            "config": config_values(self.config),
            "images": self.images,
            "workers": self.device.workers,
        }
        if step == schedule.last and not ends:
            # Not part of the state: a longer run goes on here.
            self.progress.write_line(epoch, step, schedule.rate(step))
            self.progress.end_epoch(epoch, schedule.epochs)
        within, alone = not ends and step < schedule.last, self.device.workers == 1
        state_first = within and alone
        if state_first:
            self.folder.save_state(self.everything.capture(facts))
        self.folder.save_generators(self.model.shown, epoch, best, whole=ends)
        self._report(step, stopping, pictures=alone or not (within and stopping))
        if not state_first:
            self.folder.save_state(self.everything.capture(facts))
        self.saved_at = time.monotonic()
        self.progress.restart_clock()

    def _line(self, row):
        self.curves.add(row)
        self.board.metrics(row)
        if self.on_line:
            self.on_line(row)

    def _report(self, step, stopping, pictures):
        """Draw samples, curves and page. No failure here ends a training: none is worth one."""
        epoch, every = self.schedule.epoch(step), self.config.train.sample_every
        ends = self.schedule.ends_epoch(step) and step < self.schedule.last
        try:
            if self.samples and ends and epoch % every:
                self.folder.drop_samples(epoch)  # drawn within the epoch
            elif self.samples and pictures:
                cycles = translate_samples(self.model.shown, self.samples)
                for name, (real, fake, _) in zip(("g_ab", "g_ba"), cycles):
                    self.health.watch_samples(name, real, fake)
                grid = cycle_grid(cycles, self.config.data.domains)
                self.folder.save_samples(grid, epoch)
                self.board.picture(grid, step)
            if rows := self.curves.rows():
                draw_losses(rows, self.model.terms, self.folder.path / "losses.png")
            self._write_page(step, stopping)
        except Exception as error:
            log.warning("the report of epoch %d could not be made: %s", epoch, error)

    def _write_page(self, step, stopping=False):
        """Write index.html; pictures and curves are those that are there."""
        rows, schedule, path = self.curves.rows(), self.schedule, self.folder.path
        stopped = stopping and step < schedule.last
        step_s = rows[-1]["step_s"] if rows else 0.0
        seconds = min(schedule.per_epoch * step_s, 60 * self.config.train.state_minutes or math.inf)
        shown = [len(images) for images in self.samples] or [0, 0]
        status = Status(
            step=step,
            epoch=schedule.epoch(max(step, 1)),
            epochs=schedule.epochs,
            steps=schedule.last,
            seconds=self.curves.seconds,
            left=self.progress.seconds_left or (schedule.last - step) * step_s,
            per_epoch=schedule.per_epoch,
            state_minutes=self.config.train.state_minutes,
            stopped=stopped,
            way_on=resume_command(path),
            patience=3 * seconds + 300 if rows else 0.0,
            domains=self.config.data.domains,
            shown=shown,
            side=max((images.shape[-1] for images in self.samples), default=0),
        )
        write_page(path, rows, self.model.terms, status, environment(self.device))


def translate_samples(networks: Networks, samples) -> list[tuple]:
    """Translate images of A and of B there and back.

    Returns per direction (real, fake, reconstructed), each (N, C, S, S).
    """
    cycles = []
    for real, there, back in zip(
        samples, (networks.g_ab, networks.g_ba), (networks.g_ba, networks.g_ab)
    ):
        fake = np.concatenate([there(ms.Tensor(image[None])).asnumpy() for image in real])
        rec = np.concatenate([back(ms.Tensor(image[None])).asnumpy() for image in fake])
        cycles.append((real, fake, rec))
    return cycles
