"""Image folders or a MindRecord file to an unpaired MindSpore dataset.

Every random draw is a function of (seed, epoch, index), so that neither the number of worker
threads nor a restart can change what the networks see. MindSpore is imported where it is needed:
looking at folders must not cost its start-up time.
"""

import logging
import os
import threading
import zlib
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cyclegan_ms.config import DataConfig, UserError

__all__ = [
    "FolderDomain",
    "MindRecordDomain",
    "UnpairedStream",
    "create_dataset",
    "find_images",
    "from_chw",
    "iterate",
    "known_endings",
    "load_domains",
    "load_square",
    "pillow_errors",
    "read_image",
    "resized_chw",
    "to_chw",
]

log = logging.getLogger(__name__)

_LAYOUT = "expected trainA, trainB, testA and testB, each with images, in data.root"


def known_endings() -> set[str]:
    """Endings of the types that Pillow reads, such as .png."""
    known = Image.registered_extensions()
    return {ending for ending, kind in known.items() if kind in Image.OPEN}


def find_images(folder) -> list[Path]:
    """All files below a folder whose ending names a type that Pillow reads, sorted by path.

    Hidden files and folders are left out.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = Path(folder)
    os.scandir(folder).close()  # rglob would find nothing and say nothing
    known = known_endings()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def read_image(path, channels: int = 3) -> Image.Image:
    """A file as the picture that a viewer would show: 8-bit RGB, or gray for `channels=1`.

    EXIF rotation is applied, transparency is laid on white, 16-bit and floating-point grays are
    scaled to 8 bits, an animation gives its first frame.

    Raises:
        OSError: the file cannot be read or decoded.
    """
    with pillow_errors(), Image.open(path) as image:
        image.load()
        return convert_image(ImageOps.exif_transpose(image), channels)


@contextmanager
def pillow_errors():
    """OSError for whatever Pillow raises over a broken file: SyntaxError, TypeError, ..."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def convert_image(image: Image.Image, channels: int = 3) -> Image.Image:
    """Any Pillow mode to 8-bit RGB (`channels=3`) or gray (`channels=1`), as `read_image` does."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        # 16 bits, which Pillow would clip at 255; "I" is how some of its releases open 16-bit PNG.
        values = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255)
        image = Image.fromarray(values.round().astype(np.uint8))
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        values = values * 255 if values.max(initial=0) <= 1 else values
        image = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB" if channels == 3 else "L")


def to_chw(image: Image.Image) -> np.ndarray:
    """An RGB or gray image to float32 (C, H, W) in [-1, 1]."""
    pixels = np.asarray(image, np.float32)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels / 127.5 - 1)


def from_chw(pixels: np.ndarray) -> Image.Image:
    """Float (C, H, W) in [-1, 1] to an image: the inverse of `to_chw`, values outside clipped."""
    values = np.clip((pixels + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))


def resized_chw(image: Image.Image, width: int, height: int) -> np.ndarray:
    """An RGB or gray image at another size, as RGB: float32 (3, height, width) in [-1, 1]."""
    return to_chw(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


class FolderDomain:
    """The images of one domain in one folder, nested folders included.

    A file that Pillow cannot identify is left out, one that turns out to be broken while training
    is replaced by the next readable one; both with one warning that names it.

    Args:
        folder: where to look.
        channels: 3 for RGB, 1 for gray.
        max_images: keep only the first so many; 0 keeps all.

    Raises:
        UserError: the folder is missing or holds no image.
    """

    def __init__(self, folder, channels: int = 3, max_images: int = 0):
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; {_LAYOUT}")
        self.channels = channels
        self.paths = []
        self.broken: set[Path] = set()
        for path in find_images(folder):
            try:
                Image.open(path).close()
            except Exception as error:  # as in read_image
                _warn_skipped(path, error)
                self.broken.add(path)
            else:
                self.paths.append(path)
            if len(self.paths) == max_images > 0:
                break
        if not self.paths:
            raise UserError(f"{folder}: holds no image that can be read; {_LAYOUT}")
        self.names = [f"{p.relative_to(folder)} {p.stat().st_size}" for p in self.paths]
        self.lock = threading.Lock()

    def __len__(self):
        return len(self.paths)

    def load(self, index: int) -> Image.Image:
        """The image of that index as RGB or gray, of any size.

        Raises:
            UserError: no file of the folder can be decoded any more.
        """
        for offset in range(len(self.paths)):
            path = self.paths[(index + offset) % len(self.paths)]
            if path in self.broken:
                continue
            try:
                return read_image(path, self.channels)
            except OSError as error:
                with self.lock:
                    if path not in self.broken:
                        _warn_skipped(path, error)
                        self.broken.add(path)
        raise UserError(f"{self.paths[0].parent}: none of its images can be decoded")


def _warn_skipped(path, error):
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
    log.warning("skipped %s: %s", path, reason)


class MindRecordDomain:
    """One image column of a MindRecord file as the tutorial wrote it: float32 CHW in [-1, 1].

    The rows are held in memory: MindRecord has no random access by row from Python.

    Args:
        images: the column's rows, (C, H, W) each.
        max_images: keep only the first so many; 0 keeps all.
    """

    def __init__(self, images: list[np.ndarray], max_images: int = 0):
        self.images = images[: max_images or None]
        self.names = [f"{image.shape} {zlib.crc32(image)}" for image in self.images]

    def __len__(self):
        return len(self.images)

    def load(self, index: int) -> np.ndarray:
        """The row of that index, (C, H, W) float32 in [-1, 1]."""
        return self.images[index]


def load_domains(config: DataConfig, split: str, channels=(3, 3)):
    """Domains A and B of a split, `train` or `test`, from folders or a MindRecord file.

    Raises:
        UserError: something is missing, empty, or does not fit the configuration.
    """
    root = Path(config.root)
    if root.is_dir():
        return tuple(
            FolderDomain(root / f"{split}{letter}", count, config.max_images)
            for letter, count in zip("AB", channels)
        )
    if root.is_file():
        return _load_mindrecord(root, config, channels)
    raise UserError(
        f"data.root {root} does not exist; {_LAYOUT}.\n"
        f"scripts/prepare_data.py --name apple2orange downloads the tutorial's images."
    )


def load_square(domain, index: int, size: int) -> np.ndarray:
    """An image of a domain for testing, (C, size, size) in [-1, 1]: resized to the square.

    A row of a MindRecord file is not resized but cut.
    """
    image = domain.load(index)
    if isinstance(image, np.ndarray):
        return image[:, :size, :size]
    return to_chw(image.resize((size, size), Image.Resampling.BICUBIC))


def _load_mindrecord(path, config, channels):
    from mindspore.mindrecord import FileReader

    columns = ("image_A", "image_B")
    try:
        reader = FileReader(str(path), columns=list(columns))
        rows = [tuple(row[name] for name in columns) for row in reader.get_next()]
        reader.close()
    except Exception as error:  # MindSpore raises many kinds here, with a page of text each
        raise UserError(
            f"data.root {path} is not a MindRecord file with columns image_A and image_B "
            f"({str(error).splitlines()[0]})"
        ) from error
    for name, count, image in zip(columns, channels, rows[0]):
        if image.ndim != 3 or image.dtype != np.float32:
            raise UserError(
                f"data.root {path}: {name} is {image.dtype} {image.shape}, not float32 (C, H, W)"
            )
        if image.shape[0] != count or min(image.shape[1:]) < config.crop_size:
            raise UserError(
                f"data.root {path} holds images {image.shape}; that does not fit {count} "
                f"channels and data.crop_size {config.crop_size}; a MindRecord file is not resized"
            )
    return tuple(MindRecordDomain(list(column), config.max_images) for column in zip(*rows))


class UnpairedStream:
    """Training pairs of an unpaired data set, numbered through all epochs.

    Item k is pair (k mod images per epoch) of epoch (k div images per epoch). An epoch shows every
    image of the larger domain once, in an order drawn anew, and wraps the smaller one around; it is
    filled up to whole batches the same way.

    Args:
        domain_a: images of A, with `len()` and `load(index)`.
        domain_b: images of B.
        config: load_size, crop_size, flip and batch_size are used.
        seed: of order and augmentation.
        epochs: length of the stream.
        start: number of the first pair to hand out, to go on where an earlier stream ended.
        paired: draw one order for both domains, so that image i of A always meets image i of B.
        rank: which of the `workers` that share the stream this is: a step has batch_size pairs for
            each of them, one worker's after the other's.
        workers: how many there are.
    """

    def __init__(
        self,
        domain_a,
        domain_b,
        config: DataConfig,
        seed=0,
        epochs=1,
        start=0,
        paired=False,
        rank=0,
        workers=1,
    ):
        self.domains = (domain_a, domain_b)
        self.config = config
        self.seed = seed
        self.start = start
        self.paired = paired
        self.rank, self.workers = rank, workers
        per_step = config.batch_size * workers
        self.epoch_images = epoch_steps(domain_a, domain_b, per_step) * per_step
        self.length = (epochs * self.epoch_images - start) // workers
        self.failure: UserError | None = None

    def __len__(self):
        return self.length

    def __getitem__(self, item):
        """real_a (C_a, S, S) and real_b (C_b, S, S), float32 in [-1, 1], S the crop size."""
        step, within = divmod(int(item), self.config.batch_size)
        number = (step * self.workers + self.rank) * self.config.batch_size + within
        try:
            return self._pair(self.start + number)
        except UserError as error:
            self.failure = error
            raise

    def _pair(self, number):
        epoch, position = divmod(number, self.epoch_images)
        pair = []
        for side, domain in enumerate(self.domains):
            order = _order(self.seed, 0 if self.paired else side, epoch, len(domain))
            rng = np.random.default_rng([self.seed, 1, side, epoch, position])
            image = domain.load(order[position % len(domain)])
            pair.append(augment(image, self.config, rng))
        return tuple(pair)


@lru_cache(maxsize=8)
def _order(seed, side, epoch, count):
    return np.random.default_rng([seed, 0, side, epoch]).permutation(count)


def epoch_steps(domain_a, domain_b, per_step: int) -> int:
    """Steps of an epoch: the larger domain in whole batches of all workers, rounded up."""
    return -(-max(len(domain_a), len(domain_b)) // per_step)


def augment(image, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Resize to load_size, crop crop_size at random, mirror half of the time.

    Takes a Pillow image, or an array (C, H, W), which is not resized; gives (C, S, S) in [-1, 1].
    """
    size = config.crop_size
    if isinstance(image, Image.Image):
        full = (config.load_size, config.load_size)
        pixels = to_chw(image.resize(full, Image.Resampling.BICUBIC))
    else:
        pixels = image
    top, left = (int(rng.integers(extent - size + 1)) for extent in pixels.shape[1:])
    mirror = rng.random() < 0.5
    pixels = pixels[:, top : top + size, left : left + size]
    if config.flip and mirror:
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels)


def create_dataset(stream: UnpairedStream):
    """A MindSpore dataset with columns real_a, real_b of (N, C, S, S), decoded in parallel.

    Threads are enough: Pillow decodes and resizes outside the interpreter lock.
    """
    import mindspore.dataset as ds

    cores = os.cpu_count() or 1
    workers = min(stream.config.workers or min(cores, 8), cores)
    dataset = ds.GeneratorDataset(
        stream,
        ["real_a", "real_b"],
        shuffle=False,
        num_parallel_workers=workers,
        python_multiprocessing=False,
    )
    return dataset.batch(stream.config.batch_size)


def iterate(stream: UnpairedStream):
    """The batches of `create_dataset` as dictionaries of NumPy arrays.

    Raises:
        UserError: a domain has no image left that can be decoded.
    """
    try:
        yield from create_dataset(stream).create_dict_iterator(num_epochs=1, output_numpy=True)
    except RuntimeError as error:  # MindSpore wraps what its workers raise
        raise stream.failure or error from error
