"""The progress of a training: a bar, a line of metrics.jsonl every few steps, and its curves."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cyclegan_ms.bar import bar, lines_above
from cyclegan_ms.clock import duration, seconds_left
from cyclegan_ms.model.losses import Term

__all__ = ["MEASURES", "Curves", "Progress", "drop_lines", "loss_pairs", "read_metrics",
           "telling"]  # fmt: skip

log = logging.getLogger(__name__)

_PACKAGE = logging.getLogger("cyclegan_ms")

MEASURES = ("learning_rate", "step_s", "images_per_s", "wait_share")
"""What a line of metrics.jsonl holds besides epoch, step and losses."""

_BAR = "{desc} |{bar}| {percentage:3.0f}%{postfix}"
"""80 columns have room for this, the losses, and 8 columns or more of the bar itself."""


@contextmanager
def telling(wanted: bool = True) -> Iterator[None]:
    """Write what this package logs to stderr, unless the program has set up logging itself."""
    if not wanted or _PACKAGE.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    level = _PACKAGE.level
    _PACKAGE.addHandler(handler)
    _PACKAGE.setLevel(logging.INFO)
    try:
        yield
    finally:
        _PACKAGE.removeHandler(handler)
        _PACKAGE.setLevel(level)


class Progress:
    """Follows a training: a bar on a terminal, and a line of metrics.jsonl every few steps.

    Losses in a line are means over the steps since the line before it; a line is also written at
    the end of each epoch. `step_s` leaves out the first step of a process, which compiles;
    `wait_share` is the part of it that went by waiting for images.

    Args:
        path: the metrics file, appended to.
        start: number of steps done before.
        steps: number of steps of the whole training.
        batch_images: number of images per step, both domains together.
        log_every: number of steps between lines.
        terms: the loss terms of every step.
        bar: whether to show a progress bar.
        on_line: called with every line.
    """

    def __init__(
        self,
        path,
        start: int,
        steps: int,
        batch_images: int,
        log_every: int,
        terms: list[Term],
        bar: bool,
        on_line: Callable[[dict], None],
    ):
        self.path = Path(path)
        self.file = open(path, "ab")  # noqa: SIM115 - closed in __exit__
        self.batch_images, self.log_every, self.on_line = batch_images, log_every, on_line
        self.terms, self.keys = terms, _keys_by_name(terms)
        self.left = steps - start
        self.options = {"total": steps, "initial": start, "disable": not bar}
        self.redirect = ExitStack()
        self.window, self.epoch = _Mean(), _Mean()
        self.begun: float | None = None
        self.times: list[float] = []
        self.waits: list[float] = []
        self.clock = time.perf_counter()
        self.wait = 0.0
        self.first_step_s: float | None = None
        self.done = 0

    def __enter__(self):
        self.bar = bar(**self.options, bar_format=_BAR)
        self.bar.set_description_str("compiling, up to a minute")
        if not self.bar.disable:
            self.redirect.enter_context(lines_above())
        return self

    def __exit__(self, *error):
        self.redirect.close()
        self.bar.close()
        self.file.close()

    def state(self) -> dict:
        """Return what a resumed training needs to write the same lines; JSON."""
        os.fsync(self.file.fileno())  # the lines are on the disk before a state counts on them
        return {
            "bytes": self.file.tell(),
            "window": vars(self.window).copy(),
            "epoch": vars(self.epoch).copy(),
        }

    def restore(self, state: dict) -> None:
        """Go back to a state: drop lines written after it, they will be written again."""
        drop_lines(self.path, state["bytes"])
        self.file.seek(0, os.SEEK_END)
        self.window, self.epoch = _Mean(**state["window"]), _Mean(**state["epoch"])

    def waiting(self, batches: Iterable) -> Iterator:
        """Yield the batches, and note how long each is waited for."""
        batches = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.wait = time.perf_counter() - began
            yield batch

    def step(self, epoch: int, losses: dict[str, float]) -> None:
        """Note a finished step."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.left -= 1
        if self.first_step_s is None:
            self.first_step_s, self.begun, self.done = seconds, now, 0
        else:
            self.done += 1
            self.times.append(seconds)
            self.waits.append(self.wait)
        self.window.add(losses)
        self.epoch.add(losses)
        described = ", ".join([f"epoch {epoch}", *self._left()])
        self.bar.set_description_str(described, refresh=False)
        self.bar.set_postfix_str(self._brief(losses, seconds), refresh=False)
        self.bar.update()

    def _brief(self, losses, seconds):
        """Return the means of both directions: a terminal has 80 columns."""
        parts = [
            f"{short} {np.mean([losses[key] for key in keys]):.2f}"
            for short, keys in self.keys.items()
        ]
        return " ".join([*parts, f"{seconds:.2f} s"])

    @property
    def seconds_left(self) -> float:
        """Seconds until the end, as long a step as this process's were but for the first, which
        compiles, with all that is done between steps; 0 where nobody knows."""
        if self.begun is None:
            return 0.0
        return seconds_left(self.done, self.left, time.perf_counter() - self.begun)

    def _left(self):
        left = self.seconds_left
        return [f"{duration(left)} left"] if left else []

    def write_line(self, epoch: int, step: int, learning_rate: float) -> None:
        """Write a line for the steps since the line before, if there are any."""
        if not self.window.count:
            return
        step_s = float(np.mean(self.times)) if self.times else self.first_step_s or 0.0
        row = {"epoch": epoch, "step": step, **self.window.values()}
        row["learning_rate"] = learning_rate
        row["step_s"] = round(step_s, 4)
        row["images_per_s"] = round(self.batch_images / step_s, 2)
        row["wait_share"] = round(sum(self.waits) / sum(self.times), 4) if self.times else 0.0
        self.file.write(json.dumps(row).encode() + b"\n")
        self.file.flush()
        began = time.perf_counter()
        self.on_line(row)
        self.clock += time.perf_counter() - began
        self.window, self.times, self.waits = _Mean(), [], []

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Log the epoch's mean losses in a line, of both directions where there are two.

        Without a bar it also tells the seconds per step and the time left, with all that is done
        between steps.
        """
        pairs = loss_pairs(self.epoch.values(), self.terms)
        parts = [f"{name} {pair}" for name, pair in pairs.items()]
        if self.bar.disable and self.begun is not None and self.done:
            step_s = (time.perf_counter() - self.begun) / self.done
            parts += [f"{step_s:.2f} s/step", *self._left()]
        log.info("epoch %d/%d  %s", epoch, epochs, "  ".join(parts))
        self.epoch = _Mean()

    def restart_clock(self) -> None:
        """Leave out of the step times what was done since the last step."""
        self.clock = time.perf_counter()


def _keys_by_name(terms):
    """Group the keys of loss terms by their short name: one key for each direction."""
    keys: dict[str, list[str]] = {}
    for term in terms:
        keys.setdefault(term.short, []).append(term.key)
    return keys


def loss_pairs(values: dict[str, float], terms: list[Term]) -> dict[str, str]:
    """Return the losses as they are shown: by short name, both directions as `0.31/0.29`.

    Args:
        values: losses by key.
        terms: what they are.
    """
    groups = _keys_by_name(terms)
    return {name: "/".join(f"{values[key]:.2f}" for key in keys) for name, keys in groups.items()}


@dataclass
class _Mean:
    """Running means of named numbers."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, row):
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in row.items()}
        self.count += 1

    def values(self):
        return {name: total / self.count for name, total in self.sums.items()}


class Curves:
    """The lines of metrics.jsonl in bounded memory, to draw.

    Up to `MOST` points: each is one line, or the mean of 2, 4, 8, ... lines of a longer training,
    at the step of the last of them.
    """

    MOST = 2000

    def __init__(self) -> None:
        self.points: list[dict] = []
        self.each = 1
        self.pending: list[dict] = []
        self.last: dict = {}
        self.seconds = 0.0  # that all steps took

    def add(self, row: dict) -> None:
        """Note a line."""
        self.seconds += row.get("step_s", 0) * (row["step"] - self.last.get("step", 0))
        self.last = row
        self.pending.append(row)
        if len(self.pending) < self.each:
            return
        self.points.append(_joined(self.pending))
        self.pending = []
        if len(self.points) == self.MOST:
            halves = zip(self.points[::2], self.points[1::2])
            self.points, self.each = [_joined(pair) for pair in halves], 2 * self.each

    def read(self, path) -> None:
        """Note all lines of a metrics file, one after the other."""
        for row in _lines(path):
            self.add(row)

    def rows(self) -> list[dict]:
        """Return the points, the lines that have no point yet as one more."""
        return [*self.points, _joined(self.pending)] if self.pending else self.points


def _joined(rows):
    """Return the means of the numbers that all rows have, at the last one's step and epoch."""
    if len(rows) == 1:
        return rows[0]
    shared = [key for key in rows[-1] if all(key in row for row in rows)]
    means = {key: sum(row[key] for row in rows) / len(rows) for key in shared}
    return {**means, "epoch": rows[-1]["epoch"], "step": rows[-1]["step"]}


def drop_lines(path, size: int) -> None:
    """Drop from a file of lines what was written after its first `size` bytes."""
    with open(path, "r+b") as file:
        end = min(size, file.seek(0, os.SEEK_END))
        if end < size:
            log.warning("%s: lines are missing, and stay missing", path)
        while end:  # back to the end of a line
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


def _lines(path) -> Iterator[dict]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def read_metrics(path) -> list[dict]:
    """Read all lines of a metrics file."""
    return list(_lines(path))
