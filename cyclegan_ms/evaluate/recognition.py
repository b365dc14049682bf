"""Whether pictures are recognised as of a domain, by a network that never saw the task."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from cyclegan_ms.evaluate.metrics import share_metrics

__all__ = ["LEAST", "METRICS", "TIMES", "class_name", "share_of", "telling_classes"]

LEAST = 0.05
"""Share of a domain's training pictures that a class has to be the first guess for, at least."""
TIMES = 5
"""How many times as often as for the other domain's, at least."""

METRICS = share_metrics(
    "recognised", "recognised as the target",
    "Share of translations whose first guess, by EfficientNet-Lite0, is a class that tells the "
    f"target domain: one that it gives to {LEAST:.0%} of the target's real training images or "
    f"more, and {TIMES} times as often as to the source's.",
)  # fmt: skip


def telling_classes(target: np.ndarray, source: np.ndarray) -> dict[int, tuple[float, float]]:
    """Return the classes that tell a target domain from a source domain, commonest first.

    Each with its share of both domains' training pictures: `LEAST` of the target's or more, and
    `TIMES` as much as of the source's or more.

    Args:
        target: the first guesses of the target's pictures, (N,) classes.
        source: of the source's, (M,).
    """
    classes, counts = np.unique(target, return_counts=True)
    found = {}
    for count, number in sorted(zip(counts.tolist(), classes.tolist()), reverse=True):
        share, other = count / len(target), float(np.mean(source == number))
        if share >= LEAST and share >= TIMES * other:
            found[number] = (share, other)
    return found


def class_name(number: int) -> str:
    """Return the English name of a class of ImageNet's 2012 challenge, numbered from 0."""
    return _names()[number]


@cache
def _names():
    # A word for each class out of its WordNet synset, made unique, in the order of their numbers.
    return Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8").splitlines()


def share_of(guesses: np.ndarray, classes: Iterable[int]) -> float:
    """Return the share of guesses that are one of some classes."""
    return float(np.isin(guesses, list(classes)).mean())
