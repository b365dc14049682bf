"""Files that appear complete or not at all, and how a path is written in a line of text."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "remove_leftovers", "shown"]


@contextmanager
def atomic_path(path):
    """A temporary name beside `path`, moved to `path` at the end, or removed after an error."""
    path = Path(path)
    # Without the name itself, which may be as long as a name can be.
    temporary = path.with_name(f".{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder) -> None:
    """Remove what killed processes left half-written below a folder of this package's own."""
    for path in sorted(Path(folder).rglob(".*.tmp*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def shown(path) -> str:
    """A path for a line of text, whatever characters its name has."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)
