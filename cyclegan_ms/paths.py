"""Whether files can be read and folders be written, asked before the first long step."""

import errno
import os
import tempfile
from pathlib import Path

from cyclegan_ms.config import UserError

__all__ = ["check_readable", "check_run_folder", "check_writable", "nearest_folder"]


def check_readable(path, flag: str = "") -> None:
    """Nothing, if a file is there and can be opened.

    Args:
        path: the file.
        flag: what asked for it, to be named in the error.

    Raises:
        UserError: it is not so.
    """
    called = f"{flag} {path}".strip()
    try:
        if not Path(path).is_file():
            raise UserError(f"{called}: no such file")
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{called}: {error.strerror}") from error


def nearest_folder(path) -> Path:
    """A path itself, or where it is not there yet, the nearest above it that is."""
    path = Path(path)
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def check_writable(folder, flag: str = "--output") -> None:
    """Nothing, if files can be made in a folder, which need not be there yet. Leaves no trace.

    Raises:
        UserError: it is not so.
    """
    place = nearest_folder(folder)
    try:
        if not place.is_dir():
            raise OSError(errno.ENOTDIR, f"{place} is a file, not a folder")
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise UserError(
            f"{flag} {folder}: cannot be written ({error.strerror}); choose another place"
        ) from error


def check_run_folder(output, resume: bool = False) -> None:
    """Nothing, if a training may fill a folder: a new or empty one, or for `resume` a run.

    Raises:
        UserError: it is not so, or nothing can be written there.
    """
    output = Path(output)
    try:
        if resume and not (output / "checkpoints").is_dir():
            raise UserError(f"--output {output}: holds no run to resume")
        if not resume and output.is_dir() and any(output.iterdir()):
            raise UserError(
                f"--output {output} is not empty: --resume continues a run that has saved a state; "
                f"else remove it or choose another folder, nothing is overwritten"
            )
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}") from error
    check_writable(output)
