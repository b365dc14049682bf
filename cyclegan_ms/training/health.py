"""Warn, once each, of the known ways in which a CycleGAN training goes wrong."""

import logging
from collections import deque

import numpy as np

from cyclegan_ms.evaluate.metrics import INVERTED, correlation

__all__ = ["Health"]

log = logging.getLogger(__name__)

UNCHANGED = 0.02
"""Mean difference of values in [-1, 1], 2.5 of 255 levels, that nobody sees."""


class Health:
    """Watches losses and sample pictures of a training.

    Args:
        low: discriminator loss below which its generator has nothing to learn from, `won` of a
            `DiscriminatorLoss`: 0.02 for least squares, halved, where one that cannot tell real
            from fake has 0.25.
        window: number of steps for which a discriminator's loss must stay low to be reported.
    """

    def __init__(self, low: float, window: int = 300):
        self.low = low
        self.recent: dict[str, deque[float]] = {
            name: deque(maxlen=window) for name in ("d_a", "d_b")
        }
        self.said: set[str] = set()

    def watch_losses(self, step: int, losses: dict[str, float]) -> None:
        """Note a step's losses."""
        for name, values in self.recent.items():
            values.append(losses[name])
            if len(values) == values.maxlen and max(values) < self.low:
                self._warn(
                    name,
                    f"step {step}: {name} has stayed below {self.low:.2g} for {len(values)} steps: "
                    f"its discriminator has won and the generator learns little; more varied "
                    f"images, or loss.diff_augment, may help",
                )

    def watch_samples(self, name: str, real: np.ndarray, fake: np.ndarray) -> None:
        """Compare a generator's inputs and outputs, (N, C, H, W) in [-1, 1] each."""
        mean = np.mean([correlation(x, y) for x, y in zip(real, fake)])
        if mean < INVERTED:
            self._warn(
                f"{name} inverted",
                f"{name} inverts its input (correlation {mean:.2f}): a known dead end of early "
                f"training; start again with another train.seed or a larger "
                f"loss.lambda_identity",
            )
        if real.shape == fake.shape and np.abs(fake - real).mean() < UNCHANGED:
            self._warn(
                f"{name} changes nothing",
                f"{name} gives its input back, and so has a perfect cycle: it has learnt nothing "
                f"of its target domain; train longer, or lower loss.lambda_identity",
            )
        # How much the pictures of a set differ from one another, pixel by pixel.
        spread = [float(np.std(x, axis=0).mean()) for x in (real, fake)]
        if len(real) > 1 and spread[1] < 0.05 * spread[0]:
            self._warn(
                f"{name} constant",
                f"{name} gives nearly the same picture for every input: it has collapsed; lower "
                f"train.learning_rate, or raise loss.lambda_a and loss.lambda_b",
            )

    def _warn(self, key, text):
        if key not in self.said:
            self.said.add(key)
            log.warning(text)
