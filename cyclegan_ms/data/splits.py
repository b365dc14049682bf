"""The images that a configuration asks for: to train on, to test with, to draw meanwhile."""

from pathlib import Path

import numpy as np

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data.domains import LAYOUT, Domain, FolderDomain, MindRecordDomain, Ranges
from cyclegan_ms.data.ranges import Range
from cyclegan_ms.errors import UserError, or_beside, program
from cyclegan_ms.files import find_shipped

__all__ = ["find_root", "load_domains", "load_sample_tests", "load_split", "load_tests"]

SAMPLE = "sample"
"""The data.root that stands for the sample of drawn fruit that comes with the package."""


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
    places = {it.parent.name: it.parent for it in path.parent.glob("*/trainA")}
    if advice := or_beside(path.name, places):
        raise UserError(f"data.root {root} does not exist{advice}")
    raise UserError(
        f"data.root {root} does not exist; {LAYOUT}.\n"
        f"{program('prepare_data')} --name apple2orange downloads photographs to try it on, "
        f"--data.root {SAMPLE} has drawn fruit."
    )


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
