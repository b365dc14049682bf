"""The images of a domain, one by one: from a folder, or from a MindRecord file.

Imports no MindSpore before a MindRecord file is opened.
"""

import logging
import operator
import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import Protocol

import numpy as np

from cyclegan_ms.data.formats import file_size, find_images, open_image, pillow_errors, twice
from cyclegan_ms.data.images import AnyImage, FolderRange, read_image
from cyclegan_ms.data.ranges import Range
from cyclegan_ms.errors import UserError

__all__ = ["LAYOUT", "Domain", "FolderDomain", "MindRecordDomain", "Ranges", "warn_skipped"]

log = logging.getLogger(__name__)

LAYOUT = "expected trainA, trainB, testA and testB, each with images, in data.root"

Ranges = Sequence[Range | None]
"""The ranges of A and of B; None where there are no deep pictures."""


class Domain(Protocol):
    """The images of one domain."""

    left_out: list[Path]
    """what was recognised as no image file when the domain was opened"""
    range: Range | None
    """what -1 and 1 stand for in pictures of more than 8 bits; None if none was seen"""
    finished: bool
    """whether its images are not to be resized any more"""

    @property
    def names(self) -> list[str]:
        """What tells these images from others, the same at every start."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> AnyImage:
        """Return an image of any size: RGB or gray, or an array (C, H, W) in [-1, 1].

        Raises:
            OSError: it cannot be read.
        """

    def where(self, index: int) -> Path:
        """Return the file of an image, for messages."""


class FolderDomain:
    """The images of one domain in one folder, nested folders included.

    Opening it reads names and sizes only: a file that is no image, or damaged, is found when it
    comes. What is no file, or an empty one, is left out with a warning.

    Args:
        folder: where to look.
        channels: 3 for RGB, 1 for gray, or as many as files have bands.
        max_images: number of files to keep, from the first on; 0 keeps all.
        side: length in pixels that the shorter side of images is resized to at most; large JPEG
            files are decoded at no more than is needed for it, see `read_image`. None decodes all.
        max_megapixels: larger images count as broken; 0 takes all.
        value_range: of deep pictures; None finds it in up to 200 of each ending, see `FolderRange`.

    Raises:
        UserError: the folder is missing or holds no image.
    """

    finished = False

    def __init__(
        self,
        folder,
        channels: int = 3,
        max_images: int = 0,
        side: int | None = None,
        max_megapixels: float = 200,
        value_range: Range | None = None,
    ):
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; {LAYOUT}")
        self.channels, self.side, self.max_megapixels = channels, side, max_megapixels
        self.paths: list[Path] = []
        self.names: list[str] = []
        self.left_out: list[Path] = []
        for path in find_images(folder):
            try:
                size = twice(_filled, path)
            except OSError as error:
                warn_skipped(path, error)
                self.left_out.append(path)
                continue
            self.paths.append(path)
            self.names.append(f"{path.relative_to(folder)} {size}")
            if len(self.paths) == max_images > 0:
                break
        if not any(map(_opens, self.paths)):
            raise UserError(f"{folder}: holds no image that can be read; {LAYOUT}")
        self.range = value_range
        if value_range is None:
            found = FolderRange(max_megapixels, channels)
            found.look(self.paths)
            self.range = found.settle(folder)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> AnyImage:
        """Read an image; see `Domain.load`."""
        path = self.paths[index]
        return read_image(path, self.channels, self.range, self.side, self.max_megapixels)

    def where(self, index: int) -> Path:
        """Return the file of an image."""
        return self.paths[index]


def warn_skipped(path: Path, error: OSError) -> None:
    """Warn of a file that is left out."""
    log.warning("skipped %s: %s", path, error)


def _filled(path):
    """Return the size of a file; raise OSError if there is none, or nothing in it."""
    if size := file_size(path):
        return size
    raise OSError("an empty file")


def _opens(path):
    """Return whether a file looks like an image."""
    try:
        with pillow_errors():
            twice(open_image, path).close()
    except OSError:
        return False
    return True


class MindRecordDomain:
    """One image column of a MindRecord file as the tutorial wrote it: float32 CHW in [-1, 1].

    Rows stay in the file until they are asked for: it may be larger than memory.

    Args:
        path: the file.
        column: name of the column.
        max_images: number of images to keep, from the first on; 0 keeps all.
        value_range: of the pictures that it was made of, if they were deep.

    Raises:
        RuntimeError: MindSpore cannot read it; MindSpore adds exceptions of its own.
    """

    NAMED = 1500
    """Rows, spread over the file, that are read to tell it from others: seconds at 256 pixels."""

    finished = True

    def __init__(
        self, path, column: str, max_images: int = 0, value_range: Range | None = None
    ):  # fmt: skip
        import mindspore.dataset as ds

        self.path, self.column, self.range = Path(path), column, value_range
        rows = ds.MindDataset(str(path), [column], shuffle=False).get_dataset_size()
        self.count = min(rows, max_images or rows)
        self.left_out: list[Path] = []

    @cached_property
    def names(self) -> list[str]:
        """Shapes and checksums of the rows, of some of them in a large file."""
        every = -(-self.count // self.NAMED)
        names = [
            f"{row.shape} {zlib.crc32(row.tobytes())}"
            for row in self._rows(range(0, self.count, every))
        ]
        return names if every == 1 else [f"{self.count} rows", *names]

    def __len__(self) -> int:
        return self.count

    def dataset(self, indices: Iterable[int]):
        """Return a MindSpore dataset of some rows in this order, with the one column."""
        import mindspore.dataset as ds

        indices = list(indices)
        # MindSpore takes no more indices at once than there are rows.
        parts = [indices[i : i + self.count] for i in range(0, len(indices), self.count)]
        rows = (
            ds.MindDataset(str(self.path), [self.column], 1, sampler=ds.SubsetSampler(part))
            for part in parts
        )
        return reduce(operator.add, rows)

    def _rows(self, indices):
        rows = self.dataset(indices).create_dict_iterator(num_epochs=1, output_numpy=True)
        return (row[self.column] for row in rows)

    def load(self, index: int) -> np.ndarray:
        """Read a row, (C, H, W) float32 in [-1, 1]: 10 ms; `dataset` reads many at once."""
        (row,) = self._rows([index])
        return row

    def where(self, index: int) -> Path:
        """Return the file that all rows come from."""
        return self.path
