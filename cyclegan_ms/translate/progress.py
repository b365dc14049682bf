"""How far a translation is: a bar at a terminal, elsewhere a line every half minute."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cyclegan_ms.clock import duration, seconds_left

__all__ = ["Progress", "Shown", "time_left"]

Progress = Callable[[float, float, str, str], None]
"""Called with what is done, of how much (0: unknown), in what unit, and with an input's name."""

logger = logging.getLogger(__name__)


def time_left(done: float, total: float, seconds: float) -> str:
    """Say how long the rest takes if `done` of `total` took `seconds`; "" where nobody knows."""
    left = seconds_left(done, total - done, seconds) if total else 0
    return f", about {duration(left)} left" if left else ""


class Shown:
    """A `Progress` for people.

    Args:
        terminal: whether to draw a bar; else there are lines in the log.
        seconds: from line to line; work that takes less has none.
    """

    def __init__(self, terminal: bool, seconds: float = 30.0):
        self.terminal, self.seconds = terminal, seconds
        self.bar: tqdm | None = None
        self.redirect = ExitStack()
        self.begun: tuple[str, float] = ("", 0.0)
        self.last = time.monotonic()

    def __call__(self, done: float, total: float, unit: str, name: str) -> None:
        """Show that `done` of `total` images, or of a film's frames, are translated.

        Args:
            done: how many, with the part of a large image that is done.
            total: of how many; 0 if nobody knows.
            unit: image or frame.
            name: of the input that is at work.
        """
        part = done % 1
        if self.terminal:
            bar = self._bar_of(name if unit == "frame" else unit, unit, total or None)
            bar.n = round(done, 2) if part else int(done)
            bar.set_postfix_str(name if part else "", refresh=False)
            bar.refresh()
            return
        now = time.monotonic()
        if self.begun[0] != unit:
            self.begun = (unit, now)
        if now - self.last >= self.seconds:
            self.last = now
            whole = f"{int(done)} of {total:.0f} {unit}s" if total else f"{int(done)} {unit}s"
            within = f", {part:.0%} of {name}" if part else ""
            logger.info("%s%s%s", whole, within, time_left(done, total, now - self.begun[1]))

    def _bar_of(self, task, unit, total):
        """Return the bar of a task, a new one where the last was another's."""
        if self.bar is None or self.begun[0] != task:
            self.close()
            self.begun = (task, time.monotonic())
            name = task if unit == "frame" else None
            self.bar = tqdm(desc=name, total=total, unit=unit, dynamic_ncols=True)
        return self.bar

    def close(self) -> None:
        """End the line of the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __enter__(self) -> "Shown":
        if self.terminal:  # a line of the log must not tear the bar
            package = logging.getLogger("cyclegan_ms")
            loggers = [it for it in (logging.root, package) if it.handlers]
            self.redirect.enter_context(logging_redirect_tqdm(loggers))
        return self

    def __exit__(self, *error) -> None:
        self.redirect.close()
        self.close()
