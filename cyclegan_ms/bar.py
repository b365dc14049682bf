"""Bars at a terminal, and lines of the log that do not tear them."""

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

__all__ = ["bar", "lines_above"]

_UNTOLD = {"ncols": 80, "nrows": 24}
"""size of a terminal that does not tell it"""


def bar(iterable: Iterable | None = None, **options) -> tqdm:
    """Return tqdm's bar, as wide as the terminal.

    Args:
        iterable: what is gone through, if the bar is not moved by hand.
        options: tqdm's own, but for the width.
    """
    size = {"dynamic_ncols": True} if _tells_size() else _UNTOLD
    return tqdm(iterable, **options, **size)


def lines_above() -> AbstractContextManager:
    """Write what is logged meanwhile above the bars."""
    package = logging.getLogger("cyclegan_ms")
    loggers = [it for it in (logging.root, package) if it.handlers]
    return logging_redirect_tqdm(loggers)


def _tells_size():
    """Whether the terminal has a size: tqdm draws nothing at one of 0 columns."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # no terminal
        return True
