"""Pairing and augmentation: two domains to a stream of unpaired training batches.

Every random draw is a function of (seed, epoch, index), so that neither the number of worker
threads nor a restart can change what the networks see. MindSpore is imported where it is needed:
counting steps must not cost its start-up time.
"""

import os
from collections.abc import Iterator, Sized
from functools import lru_cache

import numpy as np

from cyclegan_ms.config import DataConfig
from cyclegan_ms.data.broken import load_readable
from cyclegan_ms.data.domains import Domain, MindRecordDomain
from cyclegan_ms.data.images import AnyImage, cut, fitted
from cyclegan_ms.errors import UserError

__all__ = ["UnpairedStream", "augment", "create_dataset", "epoch_steps", "iterate"]


class UnpairedStream:
    """The training pairs of an unpaired data set, numbered through all epochs.

    Item k is pair (k mod images per epoch) of epoch (k div images per epoch). An epoch shows every
    image of the larger domain once, in an order drawn anew, and wraps the smaller one around; it is
    filled up to whole batches the same way.

    Args:
        domain_a: images of A.
        domain_b: images of B.
        config: sizes, preprocess, flip and batch_size are used.
        seed: seed of order and augmentation.
        epochs: length of the stream.
        start: number of the first pair to hand out, to go on where an earlier stream ended.
        paired: draw one order for both domains, so that image i of A always meets image i of B.
        rank: place of this worker among the `workers` that share the stream: a step has batch_size
            pairs for each of them, one worker's after the other's.
        workers: number of workers.

    An image that cannot be read is replaced by the next one that can, with one warning.
    """

    def __init__(
        self,
        domain_a: Domain,
        domain_b: Domain,
        config: DataConfig,
        seed: int = 0,
        epochs: int = 1,
        start: int = 0,
        paired: bool = False,
        rank: int = 0,
        workers: int = 1,
    ):
        self.domains = (domain_a, domain_b)
        self.broken: tuple[dict[int, int], dict[int, int]] = ({}, {})
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
        """Return real_a (C_a, S, S), real_b (C_b, S, S), float32 in [-1, 1], S the crop size."""
        number = self.number(int(item))
        try:
            images = (
                load_readable(domain, self.index(side, number), broken, number)
                for side, (domain, broken) in enumerate(zip(self.domains, self.broken))
            )
            return self.augmented(number, *images)
        except UserError as error:
            self.failure = error
            raise

    def state(self) -> list[list[tuple[int, int]]]:
        """Return for A and B the images found broken, and from which pair on they are left out."""
        return [list(broken.copy().items()) for broken in self.broken]

    def restore(self, state: list[list[tuple[int, int]]]) -> None:
        """Leave out the same images from the same pairs on: a disk may have recovered since."""
        for broken, found in zip(self.broken, state):
            broken.update(found)

    def number(self, item: int) -> int:
        """Return the number of the pair that is the `item`-th of this worker."""
        step, within = divmod(item, self.config.batch_size)
        return self.start + (step * self.workers + self.rank) * self.config.batch_size + within

    def index(self, side: int, number: int) -> int:
        """Return which image of A (`side` 0) or B (1) a pair has."""
        epoch, position = divmod(number, self.epoch_images)
        count = len(self.domains[side])
        order = _order(self.seed, 0 if self.paired else side, epoch, count)
        return int(order[position % count])

    def augmented(self, number: int, *images) -> tuple[np.ndarray, ...]:
        """Augment the images of A and B that are pair `number`; see `augment`."""
        place = divmod(int(number), self.epoch_images)
        draws = (np.random.default_rng([self.seed, 1, side, *place]) for side in (0, 1))
        return tuple(
            augment(image, self.config, rng, domain.finished)
            for image, rng, domain in zip(images, draws, self.domains)
        )


@lru_cache(maxsize=8)
def _order(seed, side, epoch, count):
    return np.random.default_rng([seed, 0, side, epoch]).permutation(count)


def epoch_steps(domain_a: Sized, domain_b: Sized, per_step: int) -> int:
    """Return the steps of an epoch: the larger domain in whole batches of all workers."""
    return -(-max(len(domain_a), len(domain_b)) // per_step)


def augment(
    image: AnyImage, config: DataConfig, rng: np.random.Generator, finished: bool = False
) -> np.ndarray:
    """Resize as `data.preprocess` says, crop crop_size at random, mirror half of the time.

    Takes an image, or an array (C, H, W) in [-1, 1]; what is `finished` is not resized. Returns
    (C, S, S) in [-1, 1].
    """
    assert config.load_size is not None  # filled in by DataConfig
    image = fitted(image, config.load_size, "crop" if finished else config.preprocess)
    pixels = cut(image, config.crop_size, lambda most: int(rng.integers(most + 1)))
    mirror = rng.random() < 0.5
    if config.flip and mirror:
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels)


PART = 100_000
"""Number of steps of a pipeline at most: it holds a list of all its pairs."""


def create_dataset(stream: UnpairedStream, first: int = 0, steps: int = PART):
    """Return a MindSpore dataset with columns real_a, real_b of (N, C, S, S), decoded in parallel.

    Threads are enough: Pillow decodes and resizes outside the interpreter lock.

    Args:
        stream: the pairs.
        first: number of its step to begin with, from 0 on.
        steps: number of steps, fewer where the stream ends.
    """
    import mindspore.dataset as ds

    cores = os.cpu_count() or 1
    threads = min(stream.config.workers or min(cores, 8), cores)
    size, columns = stream.config.batch_size, ["real_a", "real_b"]
    items = range(first * size, min((first + steps) * size, len(stream)))
    options = {"num_parallel_workers": threads, "python_multiprocessing": False}
    if isinstance(stream.domains[0], MindRecordDomain):
        rows = _rows(stream, items)
        pairs = rows.map(stream.augmented, rows.get_col_names(), columns, **options)
    else:
        pairs = ds.GeneratorDataset(_Part(stream, items), columns, shuffle=False, **options)
    return pairs.batch(size)


class _Part:
    """Some items of a stream, from 0 on."""

    def __init__(self, stream, items):
        self.stream, self.items = stream, items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, item):
        return self.stream[self.items[item]]


def _rows(stream, items):
    """Return a dataset of pairs' numbers and of their rows of a MindRecord file."""
    import mindspore.dataset as ds

    numbers = [stream.number(item) for item in items]
    rows = [
        domain.dataset(stream.index(side, number) for number in numbers)
        for side, domain in enumerate(stream.domains)
    ]
    return ds.zip((ds.NumpySlicesDataset(numbers, ["number"], shuffle=False), *rows))


def iterate(stream: UnpairedStream) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of all steps of a stream as dictionaries, see `create_dataset`.

    Raises:
        UserError: a domain has no image left that can be decoded.
    """
    try:
        steps, part = len(stream) // stream.config.batch_size, PART
        if isinstance(stream.domains[0], MindRecordDomain):  # one list of rows each
            part = min(part, max(1, len(stream.domains[0]) // stream.config.batch_size))
        for first in range(0, steps, part):
            dataset = create_dataset(stream, first, part)
            yield from dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
    except RuntimeError as error:  # MindSpore wraps what its workers raise
        raise stream.failure or error from error
