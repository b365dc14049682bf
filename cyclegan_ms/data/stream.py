"""Pairing and augmentation: two domains to a stream of unpaired training batches.

Every random draw is a function of (seed, epoch, index), so that neither the number of worker
threads nor a restart can change what the networks see. MindSpore is imported where it is needed:
counting steps must not cost its start-up time.
"""

import os
from collections.abc import Iterator, Sized
from functools import lru_cache

import numpy as np
from PIL import Image

from cyclegan_ms.config import DataConfig
from cyclegan_ms.data.domains import Domain, load_readable
from cyclegan_ms.data.images import to_chw
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
        config: load_size, crop_size, flip and batch_size are used.
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
        step, within = divmod(int(item), self.config.batch_size)
        number = (step * self.workers + self.rank) * self.config.batch_size + within
        try:
            return self._pair(self.start + number)
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

    def _pair(self, number):
        epoch, position = divmod(number, self.epoch_images)
        pair = []
        for side, domain in enumerate(self.domains):
            order = _order(self.seed, 0 if self.paired else side, epoch, len(domain))
            rng = np.random.default_rng([self.seed, 1, side, epoch, position])
            index = int(order[position % len(domain)])
            image = load_readable(domain, index, self.broken[side], number)
            pair.append(augment(image, self.config, rng))
        return tuple(pair)


@lru_cache(maxsize=8)
def _order(seed, side, epoch, count):
    return np.random.default_rng([seed, 0, side, epoch]).permutation(count)


def epoch_steps(domain_a: Sized, domain_b: Sized, per_step: int) -> int:
    """Return the steps of an epoch: the larger domain in whole batches of all workers."""
    return -(-max(len(domain_a), len(domain_b)) // per_step)


def augment(image, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Resize to load_size, crop crop_size at random, mirror half of the time.

    Takes a Pillow image, or an array (C, H, W), which is not resized; returns (C, S, S) in [-1, 1].
    """
    size = config.crop_size
    if isinstance(image, Image.Image):
        assert config.load_size is not None  # filled in by DataConfig
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
    """Return a MindSpore dataset with columns real_a, real_b of (N, C, S, S), decoded in parallel.

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


def iterate(stream: UnpairedStream) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of `create_dataset` as dictionaries of NumPy arrays.

    Raises:
        UserError: a domain has no image left that can be decoded.
    """
    try:
        yield from create_dataset(stream).create_dict_iterator(num_epochs=1, output_numpy=True)
    except RuntimeError as error:  # MindSpore wraps what its workers raise
        raise stream.failure or error from error
