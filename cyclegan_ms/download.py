"""Files from the network: fetched in pieces that can be continued, and checked."""

import hashlib
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import MaxRetryError

from cyclegan_ms.bar import bar
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import nearest_folder

__all__ = ["Download", "download", "note_source"]

AUTHORS = "http://efrosgans.eecs.berkeley.edu/cyclegan"
"""Where the authors of CycleGAN publish data sets and generators."""


@dataclass(frozen=True)
class Download:
    """A file that somebody publishes."""

    url: str
    checksum: str | None = None
    """such as sha256:845a...; None where none is published"""
    size: int = 0
    """in bytes; 0 where it is not known"""

    @property
    def about(self) -> str:
        """Its size in words, or "" where it is not known."""
        return f"{self.size / 1e6:.0f} MB" if self.size else ""


def download(source: Download, path, progress: bool = False, unpacked: float = 0) -> Path:
    """Fetch a file, continuing an interrupted download where it stopped.

    Args:
        source: what to fetch.
        path: where to put it; while it is incomplete, beside it under `.part`.
        progress: whether to show a progress bar.
        unpacked: how often its size will be needed again on the same disk.

    Raises:
        UserError: the server cannot be reached, refuses, or sends something else, or the disk has
            no room.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    if not path.exists():
        _check_room(source, path, part.stat().st_size if part.exists() else 0, unpacked)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fetch(source.url, part, progress)
        except requests.HTTPError as error:
            status = error.response.status_code
            gone = "is not there any more" if status in (404, 410) else "is refused"
            raise UserError(f"{source.url} {gone} (the server answers {status})") from error
        except OSError as error:  # requests' own errors among them
            kept = part.stat().st_size if part.exists() else 0
            if error.args and isinstance(error.args[0], MaxRetryError):  # no answer at all
                host = urlsplit(source.url).netloc
                raise UserError(
                    f"{source.url}: {host} cannot be reached; is this machine on the network?"
                ) from error
            reason = str(error).splitlines()[0][:160]
            raise UserError(
                f"{source.url}: {reason}\n"
                f"{kept / 1e6:.1f} MB are kept; run the same command to continue"
            ) from error
        part.rename(path)
    if source.checksum:
        found = _digest(path, source.checksum.split(":")[0])
        if found != source.checksum:
            path.unlink()
            expected = source.checksum[:19]
            raise UserError(
                f"{source.url}: checksum {found[:19]}... instead of {expected}...; removed"
            )
    return path


def note_source(source: Download, path, folder) -> None:
    """Note in a folder's SOURCES.txt where a file from `download` came from, its size, checksum."""
    checked = source.checksum and source.checksum.startswith("sha256:")
    found = source.checksum if checked else _digest(path, "sha256")
    known = "as published" if source.checksum else "none is published to compare with"
    with open(Path(folder, "SOURCES.txt"), "a", encoding="utf-8") as file:
        file.write(
            f"{date.today()}  {source.url}  {Path(path).stat().st_size} bytes  {found} ({known})\n"
        )


def _check_room(source, path, have, unpacked):
    """Raise UserError if the disk has no room for a file and what comes out of it."""
    needed = source.size * (1 + unpacked) - have
    free = shutil.disk_usage(nearest_folder(path.parent)).free
    if needed > free:
        raise UserError(
            f"{path.parent}: this needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; choose "
            f"another --output, or make room"
        )


def _fetch(url, part, progress):
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        if answer.status_code == 416:  # nothing is left after what we have
            if answer.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise requests.ConnectionError("what was kept of it is of another file, and removed")
        answer.raise_for_status()
        if answer.status_code != 206:  # a server that cannot continue starts again
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            open(part, "ab" if have else "wb") as file,
            bar(
                total=total, initial=have, unit="B", unit_scale=True, disable=not progress
            ) as shown,
        ):
            for chunk in answer.iter_content(1 << 16):
                file.write(chunk)
                shown.update(len(chunk))
        if total is not None and part.stat().st_size != total:
            raise requests.ConnectionError("the connection ended early")


def _digest(path, kind):
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"
