"""Published data sets, fetched and unpacked safely; folders packed into MindRecord files."""

import logging
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data.splits import load_domains
from cyclegan_ms.data.stream import UnpairedStream
from cyclegan_ms.download import AUTHORS, Download, download, note_source
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import hold_file, temporary_folder

__all__ = ["DATA_SETS", "TUTORIAL", "DataSet", "prepare_data_set", "unpack", "write_mindrecord"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSet:
    """A published archive of images of two domains."""

    domains: tuple[str, str]
    archive: Download
    contains: str = "trainA"
    """pattern of a file or folder that makes its place in the archive the data's root"""

    @property
    def about(self) -> str:
        """Its size, and what is missing, for people."""
        tests_only = ", for tests only" if self.contains.startswith("test") else ""
        return f"{self.archive.about or 'small'}{tests_only}"


def _authors(name, domains, size, checksum, contains="trainA"):
    archive = Download(f"{AUTHORS}/datasets/{name}.zip", checksum, size)
    return DataSet(domains, archive, contains)


# Sizes and sums of SHA-256 as in TensorFlow Datasets' list (url_checksums/cycle_gan.txt).
DATA_SETS = {
    name: _authors(name, domains, size, f"sha256:{checksum}")
    for name, domains, size, checksum in (
        ("apple2orange", ("apple", "orange"), 78_456_409,
         "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8"),
        ("horse2zebra", ("horse", "zebra"), 116_867_962,
         "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1"),
        ("summer2winter_yosemite", ("summer", "winter"), 132_640_856,
         "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9"),
        ("monet2photo", ("monet", "photo"), 305_231_073,
         "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04"),
        ("cezanne2photo", ("cezanne", "photo"), 279_885_071,
         "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff"),
        ("ukiyoe2photo", ("ukiyoe", "photo"), 292_946_532,
         "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08"),
        ("vangogh2photo", ("vangogh", "photo"), 306_590_349,
         "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff"),
        ("iphone2dslr_flower", ("iphone", "dslr"), 339_964_458,
         "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113"),
        ("maps", ("sat", "map"), 1_476_754_427,
         "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e"),
        ("facades", ("photo", "label"), 35_135_868,
         "9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0"),
    )
} | {
    # Photographs to try styles on, for no training; MD5 as in another program's list.
    "ae_photos": _authors(
        "ae_photos", ("photo", "style"), 0, "md5:93831625466b64eaeba58babc52d70f9", "test[AB]"
    ),
}  # fmt: skip
"""What the authors of CycleGAN publish, but for Cityscapes, whose licence forbids that."""

TUTORIAL = DataSet(
    ("apple", "orange"),
    Download(
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/models/application/"
        "CycleGAN_apple2orange.zip"
    ),
    "apple2orange_train.mindrecord",
)
"""The MindSpore tutorial's MindRecord file and checkpoints; no checksum is published."""


def unpack(archive, output, contains: str, limit: float = 8e9) -> Path:
    """Unpack the part of a zip archive around `contains` as `output`, completely or not at all.

    Returns the first that matches `contains`, unpacked.

    Args:
        archive: the zip file.
        output: the folder to make; must not exist.
        contains: name of a file or folder, or a pattern of names; what lies beside it in the
            archive becomes `output`.
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
                return output / found[0].name
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{archive}: damaged ({error}); remove it and download it again") from error
    except OSError as error:
        raise UserError(f"{output}: {error.strerror or error}") from error


def prepare_data_set(data_set: DataSet, output, progress: bool = False) -> Path:
    """Download and unpack a data set; return what to give as `data.root`.

    Raises:
        UserError: as `download` and `unpack`.
    """
    output = Path(output)
    with hold_file(output):
        if output.exists():
            raise UserError(f"{output} exists already; remove it, or choose another --output")
        # A hidden name: the file is removed at the end, or after a wrong checksum.
        archive = output.with_name(f".{output.name}.download.zip")
        download(data_set.archive, archive, progress, unpacked=1.1)
        root = unpack(archive, output, data_set.contains)
        note_source(data_set.archive, archive, output)
        archive.unlink()
    return root if root.is_file() else output


def write_mindrecord(config: DataConfig, path, seed: int = 0) -> int:
    """Write one epoch of a data set's training pairs as a MindRecord file like the tutorial's.

    Pairing, crop and flip are frozen in it: columns image_A, image_B, float32 (3, S, S) in
    [-1, 1]. Returns the number of rows.

    Raises:
        UserError: the folder is not as expected, or the file exists.
    """
    path = Path(path)
    index = path.with_name(f"{path.name}.db")
    Config(config)  # sizes that fit each other
    # Both files under temporary names first; the index finds its file beside itself by name.
    with hold_file(path), temporary_folder(path.parent) as folder:
        for file in (path, index):
            if file.exists():
                raise UserError(f"{file} exists already; nothing is overwritten")
        stream = UnpairedStream(*load_domains(config, "train"), config, seed)
        for domain, name in zip(stream.domains, ("trainA", "trainB")):
            if domain.range:
                way = f"--data.value_range '{domain.range}'"
                log.info("%s: trainings on the file need %s", name, way)

        from mindspore.mindrecord import FileWriter

        rows = _write_rows(FileWriter(str(folder / path.name), shard_num=1), stream, config)
        for file in (index, path):
            (folder / file.name).rename(file)
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
