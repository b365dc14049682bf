"""How far a translation is: a bar at a terminal, elsewhere a line every half minute."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tqdm import tqdm

from cyclegan_ms.bar import bar, lines_above
from cyclegan_ms.clock import duration, seconds_left

__all__ = ["Done", "Progress", "Shown", "TimeLeft"]

logger = logging.getLogger(__name__)

_NAME = 32
"""Letters of a name beside the bar, at most: a longer one leaves the bar no room."""


@dataclass(frozen=True)
class Done:
    """How far it is with all images, or with the frames of one film."""

    count: float
    """how many are done, with the part of a large image that is"""
    total: int
    """of how many; 0 if nobody knows"""
    unit: str
    """image or frame"""
    name: str
    """of the input that is at work"""
    share: float
    """of the work, 0 to 1: large images are more of it than small ones; 0 if nobody knows"""

    @property
    def task(self) -> str:
        """What has a beginning of its own: all images, or one film."""
        return self.name if self.unit == "frame" else self.unit


Progress = Callable[[Done], None]
"""Is told how far the work is."""


class TimeLeft:
    """Estimates how long the rest takes, by all but the first piece: engines warm up in that."""

    def __init__(self):
        self.task, self.share, self.begun = "", 0.0, 0.0

    def __call__(self, done: Done) -> str:
        """Say how long the rest takes; "" while nobody knows."""
        now = time.monotonic()
        if done.task != self.task or not self.share:
            self.task, self.share, self.begun = done.task, done.share, now
        left = seconds_left(done.share - self.share, 1 - done.share, now - self.begun)
        return f", about {duration(left)} left" if round(left) else ""


class Shown:
    """A `Progress` for people.

    Args:
        terminal: whether to draw a bar; else there are lines in the log.
        seconds: from line to line; work that takes less has none.
    """

    def __init__(self, terminal: bool, seconds: float = 30.0):
        self.terminal, self.seconds = terminal, seconds
        self.bar: tqdm | None = None
        self.task = ""
        self.redirect = ExitStack()
        self.time_left = TimeLeft()
        self.last = time.monotonic()

    def __call__(self, done: Done) -> None:
        """Show how far it is."""
        left, part = self.time_left(done), done.count % 1
        if self.terminal:
            self._draw(done, left)
            return
        now = time.monotonic()
        if now - self.last >= self.seconds:
            self.last = now
            of = f" of {done.total}" if done.total else ""
            within = f", {part:.0%} of {done.name}" if part else ""
            logger.info("%d%s %ss%s%s", done.count, of, done.unit, within, left)

    def _draw(self, done, left):
        if done.unit == "frame":
            count, total, form = int(done.count), done.total or None, None
        else:  # the bar shows the work, which counts of images of all sizes do not
            part = done.count % 1
            within = f", {part:.0%} of {_short(done.name)}" if part else ""
            words = f"{int(done.count)}/{done.total} images [{{elapsed}}{left}{_safe(within)}]"
            count, total, form = done.share, 1, f"{{l_bar}}{{bar}}| {words}"
        if self.bar is None or self.task != done.task:
            self.close()
            self.task = done.task
            name = _short(done.name) if done.unit == "frame" else None
            self.bar = bar(desc=name, total=total, unit=done.unit, bar_format=form)
        self.bar.n, self.bar.bar_format = count, form
        self.bar.refresh()

    def close(self) -> None:
        """End the line of the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __enter__(self) -> "Shown":
        if self.terminal:
            self.redirect.enter_context(lines_above())
        return self

    def __exit__(self, *error) -> None:
        self.redirect.close()
        self.close()


def _short(name):
    """Leave out the middle of a long name."""
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[1 - _NAME // 2 :]}"


def _safe(text):
    """Keep the braces of a name from being read as fields of a format."""
    return text.replace("{", "{{").replace("}", "}}")
