"""The images of a domain, one by one: from a folder, or from a MindRecord file.

Imports no MindSpore before a MindRecord file is opened.
"""

import logging
import operator
import threading
import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data.formats import file_size, find_images, open_image, pillow_errors, twice
from cyclegan_ms.data.images import AnyImage, FolderRange, cut, fitted, read_image
from cyclegan_ms.data.ranges import Range
from cyclegan_ms.errors import UserError, program
from cyclegan_ms.files import find_shipped

__all__ = [
    "Domain",
    "FolderDomain",
    "MindRecordDomain",
    "Ranges",
    "count_broken",
    "find_root",
    "load_domains",
    "load_readable",
    "load_sample_tests",
    "load_split",
    "load_tests",
    "sample_images",
    "to_square",
]

log = logging.getLogger(__name__)

_LAYOUT = "expected trainA, trainB, testA and testB, each with images, in data.root"

SAMPLE = "sample"
"""The data.root that stands for the sample of drawn fruit that comes with the package."""


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
            raise UserError(f"{folder}: no such folder; {_LAYOUT}")
        self.channels, self.side, self.max_megapixels = channels, side, max_megapixels
        self.paths: list[Path] = []
        self.names: list[str] = []
        self.left_out: list[Path] = []
        for path in find_images(folder):
            try:
                size = twice(_filled, path)
            except OSError as error:
                _warn_skipped(path, error)
                self.left_out.append(path)
                continue
            self.paths.append(path)
            self.names.append(f"{path.relative_to(folder)} {size}")
            if len(self.paths) == max_images > 0:
                break
        if not any(map(_opens, self.paths)):
            raise UserError(f"{folder}: holds no image that can be read; {_LAYOUT}")
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


def find_root(root) -> Path:
    """Return the folder or file that data.root names.

    Raises:
        UserError: there is none.
    """
    path = Path(root).expanduser()
    if path.exists():
        return path
    if str(root) == SAMPLE:
        return find_shipped("sample")
    raise UserError(
        f"data.root {root} does not exist; {_LAYOUT}.\n"
        f"{program('prepare_data')} --name apple2orange downloads the tutorial's images."
    )


Ranges = Sequence[Range | None]
"""The ranges of A and of B; None where there are no deep pictures."""


def load_domains(
    config: DataConfig, split: str, channels=(3, 3), ranges: Ranges = (None, None)
) -> tuple[Domain, Domain]:
    """Open domains A and B of a split, `train` or `test`, from folders or a MindRecord file.

    Args:
        config: all but flip and batch_size are used.
        split: train or test.
        channels: number of channels of A and of B.
        ranges: what black and white are in their deep pictures, as the training images have it; of
            the training images, `data.value_range` or what is found.

    Raises:
        UserError: something is missing, empty, or does not fit the configuration.
    """
    root = find_root(config.root)
    if config.value_range != "auto":
        ranges = [Range(*config.value_range)] * 2
    if root.is_file():
        return _load_mindrecord(root, config, channels, ranges)
    side = None if config.preprocess == "crop" else config.load_size
    limits = (config.max_images, side, config.max_megapixels)
    a, b = (
        FolderDomain(root / f"{split}{letter}", count, *limits, value_range)
        for letter, count, value_range in zip("AB", channels, ranges)
    )
    return a, b


def load_split(config: Config, split: str, ranges: Ranges = (None, None)) -> tuple[Domain, Domain]:
    """Open domains A and B of a split, with the channels of the model; see `load_domains`."""
    channels = (config.model.channels_a, config.model.channels_b)
    return load_domains(config.data, split, channels, ranges)


def load_sample_tests(config: Config, trains: tuple[Domain, Domain]) -> tuple[Domain, Domain]:
    """Open the test images that are drawn while training.

    A MindRecord file has none: there they are the training images.

    Args:
        config: the sections data and model are used.
        trains: the training images.

    Raises:
        UserError: there are none, with the way to train without them.
    """
    if Path(config.data.root).is_file():
        return trains
    try:
        return load_split(config, "test", [domain.range for domain in trains])
    except UserError as error:
        raise UserError(f"{error}\n--train.sample_every 0 trains without test images") from error


def load_tests(config: Config, ranges: Ranges = (None, None)) -> tuple[Domain, Domain]:
    """Open the test images of both domains; `ranges` are those of the training images.

    Raises:
        UserError: there are none.
    """
    if Path(config.data.root).is_file():
        raise UserError(
            f"data.root {config.data.root} is a file, which has no test images; an "
            f"evaluation needs a folder with trainA, trainB, testA and testB"
        )
    return load_split(config, "test", ranges)


def _load_mindrecord(path, config, channels, ranges):
    if config.preprocess != "resize_and_crop":
        raise UserError(
            f"data.root {path} is a file of finished images: data.preprocess {config.preprocess} "
            f"is for folders; {program('prepare_data')} --folder DIR --preprocess makes such a file"
        )
    columns = ("image_A", "image_B")
    try:
        domains = tuple(
            MindRecordDomain(path, name, config.max_images, value_range)
            for name, value_range in zip(columns, ranges)
        )
        firsts = [domain.load(0) for domain in domains]
    except Exception as error:  # MindSpore raises many kinds here, with a page of text each
        raise UserError(
            f"data.root {path} is not a MindRecord file with columns image_A and image_B "
            f"({str(error).splitlines()[0]})"
        ) from error
    for name, count, image in zip(columns, channels, firsts):
        if image.ndim != 3 or image.dtype != np.float32:
            raise UserError(
                f"data.root {path}: {name} is {image.dtype} {image.shape}, not float32 (C, H, W)"
            )
        if image.shape[0] != count or min(image.shape[1:]) < config.crop_size:
            raise UserError(
                f"data.root {path} holds images {image.shape}; that does not fit {count} "
                f"channels and data.crop_size {config.crop_size}; a MindRecord file is not resized"
            )
    return domains


_reporting = threading.Lock()


def load_readable(domain: Domain, index: int, broken: dict[int, int], number: int = 0) -> AnyImage:
    """Load an image, or in place of a broken one the next that can be read. Warn of each once.

    An image is broken if it cannot be read twice in a row.

    Args:
        domain: the images.
        index: which image.
        broken: the images found broken, and the number of the first pair that did without each; new
            ones are added.
        number: number of the pair that the image is for.

    Raises:
        UserError: no image of the domain can be read any more.
    """
    added = []
    for offset in range(len(domain)):
        place = (index + offset) % len(domain)
        if broken.get(place, number + 1) <= number:
            continue
        try:
            return twice(domain.load, place)
        except OSError as error:
            with _reporting:
                if place not in broken:
                    _warn_skipped(domain.where(place), error)
                    added.append(place)
                broken[place] = min(number, broken.get(place, number))
    for place in added:  # the folder is gone, not each of its images: they may come back
        broken.pop(place, None)
    raise UserError(f"{domain.where(0).parent}: none of its images can be decoded")


def count_broken(domain: Domain, progress: bool = False) -> int:
    """Read every image, warn of each that cannot be read, and return how many these are.

    Args:
        domain: the images.
        progress: whether to draw a bar.

    Raises:
        UserError: no image can be read.
    """
    broken: dict[int, int] = {}
    words = f"reading {domain.where(0).parent.name}"
    for index in tqdm(range(len(domain)), words, unit="image", disable=not progress, leave=False):
        if index not in broken:
            load_readable(domain, index, broken)
    return len(broken)


def _warn_skipped(path, error):
    log.warning("skipped %s: %s", path, error)


def to_square(image: AnyImage, config: DataConfig, finished: bool = False) -> np.ndarray:
    """Turn an image of a domain into (C, S, S) in [-1, 1] for testing, S `config.test_size`.

    As in training, with its middle in place of a random crop; all of it is seen, or as much as a
    square can show. One that is `finished` is cut to the crop size alone.
    """
    size = config.crop_size if finished else config.test_size
    fit = fitted(image, size, "crop" if finished else config.preprocess)
    return np.ascontiguousarray(cut(fit, size, lambda most: most // 2))


def sample_images(domain: Domain, config: DataConfig, count: int = 4) -> np.ndarray:
    """Return a fixed choice of images, spread over a domain: (count, C, S, S), see `to_square`."""
    broken: dict[int, int] = {}
    indices = np.linspace(0, len(domain) - 1, min(count, len(domain))).astype(int)
    images = (load_readable(domain, index, broken) for index in indices)
    return np.stack([to_square(image, config, domain.finished) for image in images])
