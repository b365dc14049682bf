"""Download and unpack public archives safely; pack folders into MindRecord files."""

import hashlib
import logging
import shutil
import stat
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data.domains import load_domains
from cyclegan_ms.data.stream import UnpairedStream
from cyclegan_ms.errors import UserError

__all__ = ["SOURCES", "Source", "download", "prepare_archive", "unpack", "write_mindrecord"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where an archive is published."""

    url: str
    sha256: str | None
    """of the archive, where it is known"""
    contains: str
    """a file or folder that makes its place in the archive the data's root"""


SOURCES = {
    # The CycleGAN authors' images; checksum as published in TensorFlow Datasets' list.
    "authors": Source(
        "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/apple2orange.zip",
        "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
        "trainA",
    ),
    # The MindSpore tutorial's MindRecord file and checkpoints; no checksum is published.
    "tutorial": Source(
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/models/application/"
        "CycleGAN_apple2orange.zip",
        None,
        "apple2orange_train.mindrecord",
    ),
}


def download(url: str, path, sha256: str | None = None, progress: bool = False) -> Path:
    """Fetch a file, continuing an interrupted download where it stopped.

    Args:
        url: where it is.
        path: where to put it; while it is incomplete, beside it under `.part`.
        sha256: checksum that it must have; None skips the check.
        progress: whether to show a progress bar.

    Raises:
        UserError: the server cannot be reached, refuses, or sends something else.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        try:
            _fetch(url, part, progress)
        except OSError as error:  # requests' own errors among them
            kept = part.stat().st_size if part.exists() else 0
            reason = str(error).splitlines()[0][:160]
            raise UserError(
                f"{url}: {reason}\n{kept / 1e6:.1f} MB are kept; run the same command to continue"
            ) from error
        part.rename(path)
    if sha256 and (found := _sha256(path)) != sha256:
        path.unlink()
        raise UserError(f"{url}: checksum {found[:12]}... instead of {sha256[:12]}...; removed")
    return path


def _fetch(url, part, progress):
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        if answer.status_code == 416:  # nothing is left after what we have
            return
        answer.raise_for_status()
        if answer.status_code != 206:  # a server that cannot continue starts again
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=not progress) as bar,
        ):
            for chunk in answer.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and part.stat().st_size != total:
            raise requests.ConnectionError("the connection ended early")


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(archive, output, contains: str, limit: float = 8e9) -> Path:
    """Unpack the part of a zip archive around `contains` as `output`, completely or not at all.

    Args:
        archive: the zip file.
        output: the folder to make; must not exist.
        contains: name of a file or folder; what lies beside it in the archive becomes `output`.
        limit: largest unpacked size in bytes.

    Raises:
        UserError: not a whole zip file, an entry that points outside, too large, or no `contains`.
    """
    archive, output = Path(archive), Path(output)
    if output.exists():
        raise UserError(f"{output} exists already; remove it, or choose another --output")
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            for entry in entries:
                target = Path(entry.filename)
                link = stat.S_ISLNK(entry.external_attr >> 16)
                if target.is_absolute() or ".." in target.parts or link:
                    raise UserError(f"{archive}: refused, its entry {entry.filename!r} is unsafe")
            size = sum(entry.file_size for entry in entries)
            if size > limit:
                raise UserError(f"{archive}: refused, unpacked it would be {size / 1e9:.1f} GB")
            temporary = output.with_name(f".{output.name}.unpacking")
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                file.extractall(temporary)  # checks every entry's CRC
                found = sorted(temporary.rglob(contains))
                if not found:
                    raise UserError(f"{archive}: holds no {contains}")
                found[0].parent.rename(output)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{archive}: damaged ({error}); remove it and download it again") from error
    except OSError as error:
        raise UserError(f"{output}: {error.strerror or error}") from error
    return output


def prepare_archive(source: Source, output, progress: bool = False) -> Path:
    """Download and unpack a data set; return what to give as `data.root`.

    Raises:
        UserError: as `download` and `unpack`.
    """
    output = Path(output)
    if output.exists():
        raise UserError(f"{output} exists already; remove it, or choose another --output")
    # A hidden name: the file is removed at the end, or after a wrong checksum.
    archive = output.with_name(f".{output.name}.download.zip")
    download(source.url, archive, source.sha256, progress)
    unpack(archive, output, source.contains)
    archive.unlink()
    return output / source.contains if source.contains.endswith(".mindrecord") else output


def write_mindrecord(config: DataConfig, path, seed: int = 0) -> int:
    """Write one epoch of a data set's training pairs as a MindRecord file like the tutorial's.

    Pairing, crop and flip are frozen in it: columns image_A, image_B, float32 (3, S, S) in
    [-1, 1]. Returns the number of rows.

    Raises:
        UserError: the folder is not as expected, or the file exists.
    """
    path = Path(path)
    index = path.with_name(f"{path.name}.db")
    for file in (path, index):
        if file.exists():
            raise UserError(f"{file} exists already; nothing is overwritten")
    Config(config)  # sizes that fit each other
    stream = UnpairedStream(*load_domains(config, "train"), config, seed)
    for domain, name in zip(stream.domains, config.domains):
        if domain.range:
            log.info("%s: trainings on the file need --data.value_range '%s'", name, domain.range)

    from mindspore.mindrecord import FileWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    # Both files under temporary names first; the index finds its file beside itself by name.
    folder = Path(tempfile.mkdtemp(prefix=".mindrecord.", dir=path.parent))
    try:
        rows = _write_rows(FileWriter(str(folder / path.name), shard_num=1), stream, config)
        for file in (index, path):
            (folder / file.name).rename(file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _write_rows(writer, stream, config):
    shape = [3, config.crop_size, config.crop_size]
    column = {"type": "float32", "shape": shape}
    writer.add_schema({"image_A": column, "image_B": column}, "unpaired images")
    for index in range(len(stream)):
        real_a, real_b = stream[index]
        writer.write_raw_data([{"image_A": real_a, "image_B": real_b}])
    writer.commit()
    return len(stream)
