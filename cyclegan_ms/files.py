"""Files that appear complete or not at all, and checks of paths before the first long step."""

import errno
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from cyclegan_ms.errors import UserError, or_beside, program

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "GENERATOR_FILES",
    "atomic_path",
    "check_readable",
    "check_writable",
    "clean_up",
    "find_shipped",
    "find_weights",
    "hold_file",
    "hold_folder",
    "nearest_folder",
    "no_run",
    "remove_leftovers",
    "settings_of",
    "shown",
    "temporary_folder",
    "write_through",
]

log = logging.getLogger(__name__)

GENERATOR_FILES = {"a2b": "g_ab.ckpt", "b2a": "g_ba.ckpt"}
"""Names of both generators' files in a run folder, by direction."""

_cleanings: list[Callable[[], None]] = []


@contextmanager
def _cleaned(clean):
    """Call `clean` at the end, or in `clean_up` if that comes first."""
    _cleanings.append(clean)
    try:
        yield
    finally:
        _cleanings.remove(clean)
        clean()


def clean_up() -> None:
    """Remove what is temporary now, the last first: for a program that is about to end at once."""
    for clean in reversed(_cleanings):
        with suppress(OSError):
            clean()


@contextmanager
def atomic_path(path) -> Iterator[Path]:
    """Give a temporary name beside `path`; move it to `path` at the end, remove it on an error."""
    path = Path(path)
    # Random: other threads, and processes in other containers, may have this one's number. Without
    # the name itself, which may be as long as a name can be.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp{path.suffix}")
    with _cleaned(lambda: temporary.unlink(missing_ok=True)):
        yield temporary
        os.replace(temporary, path)


@contextmanager
def temporary_folder(parent=None) -> Iterator[Path]:
    """Give a folder, hidden below `parent` or where the system has them; remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="." if parent else None, dir=parent))
    with _cleaned(lambda: shutil.rmtree(folder, ignore_errors=True)):
        yield folder


def write_through(path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def hold_folder(folder) -> AbstractContextManager[None]:
    """Own a folder, which is made if need be, for as long as the context lasts.

    The kernel releases the lock when the process ends, however it ends.

    Raises:
        UserError: another process owns it, or nothing can be written there.
    """
    return _hold(folder, Path(folder, ".lock"))


def hold_file(path) -> AbstractContextManager[None]:
    """Own a file that is to be written, as `hold_folder` owns a folder."""
    path = Path(path)
    return _hold(path, path.with_name(f".{path.name}.lock"))


@contextmanager
def _hold(place, path):
    """Own a place by the lock file `path`."""
    check_writable(path.parent)
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    file = _locked(path)
    if file is None:
        owner = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
        raise UserError(
            f"--output {place}: in use by {owner or 'another process'}; wait until it has ended, "
            f"or choose another place"
        )

    def leave():
        path.unlink(missing_ok=True)
        with suppress(OSError):  # a full disk
            file.close()
        for folder in made:  # nothing came of it
            with suppress(OSError):
                folder.rmdir()

    with _cleaned(leave):
        with suppress(OSError):
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            file.flush()
        yield


def _locked(path):
    """Open a lock file and lock it; None if another process has."""
    while True:
        file = open(path, "ab")  # noqa: SIM115 - closed with the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            why = error.strerror
            log.warning("%s cannot be locked (%s): use it once at a time", path.parent, why)
            return file
        # Its last owner may have removed it in between: then this is a lock on nothing.
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            file.truncate(0)
            return file
        file.close()


def remove_leftovers(folder, below: bool = True) -> None:
    """Remove what killed processes left half-written in a folder of one owner, and below it."""
    pattern = ".*.tmp*"
    for path in sorted(Path(folder).rglob(pattern) if below else Path(folder).glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def shown(path) -> str:
    """Return a path as printable text, whatever characters its name has."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)


def check_readable(path, flag: str = "") -> None:
    """Raise UserError unless the file exists and can be opened.

    Args:
        path: the file.
        flag: the flag that named it, for the message.
    """
    called = f"{flag} {path}".strip()
    try:
        if not Path(path).is_file():
            raise UserError(f"{called}: no such file")
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{called}: {error.strerror}") from error


def check_writable(folder, flag: str = "--output") -> None:
    """Raise UserError unless files can be made in a folder, existing or not. Leaves no trace."""
    place = nearest_folder(folder)
    try:
        if not place.is_dir():
            raise OSError(errno.ENOTDIR, f"{place} is a file, not a folder")
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise UserError(
            f"{flag} {folder}: cannot be written ({error.strerror}); choose another place"
        ) from error


def nearest_folder(path) -> Path:
    """Return the path itself, or the nearest parent that exists."""
    path = Path(path)
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def find_shipped(kind: str) -> Path:
    """Return the folder of files that come with the package.

    Args:
        kind: `configs`, `sample` or `pretrained`.

    A wheel brings them inside the package; a checkout has them at its top, outside of it.
    """
    package = Path(__file__).resolve().parent
    outside = package.parent if kind == "configs" else package.parent / "data"
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else outside / kind


def find_weights(name, key: str) -> Path:
    """Return the file or folder of generators that a user names: a path, or a shipped name.

    Args:
        name: what was given.
        key: the setting that it was given for.

    Raises:
        UserError: there is none.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    shipped = find_shipped("pretrained")
    names = sorted(it.name for it in shipped.iterdir()) if shipped.is_dir() else []
    if str(name) in names:
        return shipped / str(name)
    places = {it.name: shown(it) for it in path.parent.glob("[!.]*") if _holds_weights(it)}
    places |= {name: name for name in names}
    advice = or_beside(path.name, places)
    if not advice:
        advice = "; give a run folder, such as runs/NAME, or a generator's file"
        advice += f", or one that comes along: {', '.join(names)}" if names else ""
        advice += f";\n{program('prepare_data')} --weights list names others, to download"
    raise UserError(f"{key} {name}: no such file or folder{advice}")


def _holds_weights(path):
    weights = (".ckpt", ".onnx", ".mindir", ".pth", ".pt", ".safetensors")
    return path.suffix.lower() in weights or any(path.glob("g_*.ckpt"))


def no_run(folder, missing: str) -> UserError:
    """Return the error that a folder is no run with generators.

    Args:
        folder: which was given.
        missing: what it lacks.
    """
    folder = Path(folder)
    if (folder.parent / GENERATOR_FILES["a2b"]).is_file():
        advice = f"give {shown(folder.parent)}"
    else:
        advice = "a training writes it after its first epoch or train.state_minutes"
    return UserError(f"{folder}: no run with generators, it has no {missing}; {advice}")


def settings_of(run) -> Path:
    """Return the settings, config.yaml, of a folder with both generators.

    Args:
        run: a run, its best/, or a kept epoch, which has the settings of its run.

    Raises:
        UserError: one of them is missing.
    """
    run = Path(run)
    places = [run, run.resolve().parents[1]] if run.name.startswith("epoch_") else [run]
    settings = [place / "config.yaml" for place in places if (place / "config.yaml").is_file()]
    missing = [] if settings else ["config.yaml"]
    missing += [name for name in GENERATOR_FILES.values() if not (run / name).is_file()]
    if missing:
        raise no_run(run, missing[0])
    return settings[0]
