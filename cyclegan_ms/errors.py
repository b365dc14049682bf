"""What a user can mend: errors that carry their own advice, and the commands to type next."""

import difflib
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["TrainingStopped", "UserError", "did_you_mean", "nearest", "or_beside", "program"]


class UserError(Exception):
    """A mistake that the user can mend: one or two lines saying what, where and what to do."""


class TrainingStopped(Exception):
    """A training ended early; the message says why and how to go on.

    Args:
        message: one or two lines.
        status: exit status for a program.
    """

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return the name that a mistyped or shortened one may have meant, if there is any."""
    known = list(known)
    begun = [name for name in known if len(given) > 2 and name.startswith(given)]
    return next(iter(begun or difflib.get_close_matches(given, known, 1, 0.7)), None)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return advice on a name that is not known: the nearest one, or all that are known."""
    known = list(known)
    near = nearest(given, known)
    return f"did you mean {near}?" if near else f"it can be {', '.join(known)}"


def or_beside(given: str, places: Mapping[str, object]) -> str:
    """Return `; did you mean PLACE?` for the place of the nearest name; "" if none is near."""
    near = nearest(given, places)
    return f"; did you mean {places[near]}?" if near else ""


def program(name: str) -> str:
    """Return a command of this package the way this user calls it.

    Args:
        name: such as `train` or `prepare_data`.

    Returns `python scripts/train.py` if a script of a checkout is running, with that script's path
    (relative if it is below the working directory), and else the installed `cyclegan-train`.
    """
    running = Path(sys.argv[0])
    if running.suffix == ".py" and running.parent.name == "scripts":
        script = running.with_name(f"{name}.py")
        if script.is_relative_to(Path.cwd()):
            script = script.relative_to(Path.cwd())
        return f"python {shlex.quote(str(script))}"
    return f"cyclegan-{name.replace('_', '-')}"
