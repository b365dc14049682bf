"""The memory of a training: an estimate, what needs less, and what goes back to the system."""

import ctypes
import logging
import sys

from cyclegan_ms.config import Config
from cyclegan_ms.device import free_memory
from cyclegan_ms.model.feature_discriminator import SIDE

__all__ = ["ADVICE", "estimate", "give_back", "is_shortage", "say_estimate"]

log = logging.getLogger(__name__)

ADVICE = "a smaller data.crop_size, data.batch_size or model.width needs less"

# oneDNN says the first, when it cannot get a buffer; MindSpore and C++ say the others.
_SHORTAGES = ("could not create a primitive", "memory failed", "memory not enough",
              "out of memory", "bad_alloc")  # fmt: skip


def estimate(config: Config) -> float:
    """Estimate the peak memory in bytes of a training of the paper variant in Graph mode on CPU.

    Fitted to the peaks of short trainings with MindSpore 2.8.0, their saving included: within 13 %
    at 64, 128 and 256 pixels, widths 32 and 64, 6 and 9 blocks, batches of 4 and 8 at 128 pixels
    and up to 24 at 64, with and without `model.upsample resize`, feature discriminators and
    `loss.lambda_saturation`. The longest run that was watched, 1,485 steps at 256 pixels with all
    three, took 14 % more.
    """
    model, data = config.model, config.data
    assert model.blocks is not None  # filled in by Config
    generator, discriminator = 180 + 288 * model.blocks, 675  # weights per width squared
    values = 2 * (generator + discriminator) * model.width**2  # of all four networks
    # Maps kept for the backward pass, in units of the first convolution's size: 12 around the
    # blocks, 6 more where pixels are repeated, 20 more where they are penalised, 1.5 more for each
    # block.
    around = 18 if model.upsample == "resize" else 12
    around += 20 if config.loss.lambda_saturation else 0
    maps = (around + 1.5 * model.blocks) * data.batch_pixels * model.width
    # Found, not explained: images of a batch take 16 units more for each that is beside them.
    beside = 16 * (data.batch_size - 1) * data.batch_pixels * model.width
    # A weight comes with its gradient, Adam's two moments, its tiles and copies while a state is
    # saved; a map with what is made of it.
    features = 0.0
    if config.loss.lambda_features:  # which enlarge small images
        features = 0.4e9 + 3800 * data.batch_size * max(SIDE, data.crop_size) ** 2
    return 1.5e9 + 4 * (17 * values + 7.8 * maps + beside) + features


def say_estimate(config: Config, target: str) -> None:
    """Log roughly what a training will need, if known; warn if that much is not free."""
    if target != "CPU" or config.device.mode != "graph" or config.model.variant != "paper":
        return
    needed, free = estimate(config) / 1e9, free_memory() / 1e9
    log.info("this takes about %.1f GB of memory, %.1f GB are free", needed, free)
    if needed > free:
        log.warning("that may not be enough: %s", ADVICE)


def give_back() -> None:
    """Return free memory to the system, where the C library is glibc.

    What the kernels of a step need for a moment comes from a heap that glibc itself hardly ever
    shrinks, and leaves holes in it that grow by about half a megabyte a step: after 2,000 steps at
    64 pixels a process had grown from 1.5 to 2.0 and 2.7 GB. It takes 10 ms.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def is_shortage(error: BaseException) -> bool:
    """Return whether an error tells of too little memory, in one of MindSpore's ways."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(part in text for part in _SHORTAGES)
