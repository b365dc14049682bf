"""The judges of whole images: what they learn from real ones, and what they say of translations."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from PIL import Image

from cyclegan_ms.data.images import resized_chw
from cyclegan_ms.evaluate import classifier, distances, recognition
from cyclegan_ms.evaluate.efficientnet import EfficientNet
from cyclegan_ms.evaluate.features import Network
from cyclegan_ms.evaluate.images import RealImages, spread

__all__ = ["CHUNK", "FEWEST", "Jury", "Opinion"]

log = logging.getLogger(__name__)

CHUNK = 64
"""Number of images that are held at once; a multiple of the batches that they are judged in."""

FEWEST = 4
"""Number of images that distances between sets are computed for, at least."""

_JUDGED_BY = 2000
"""Number of training images of a domain that judges learn from, at most."""


@dataclass
class Opinion:
    """What the judges say of some pictures."""

    odds: list[float] = field(default_factory=list)
    """the classifier's log-odds that a picture is of domain B"""
    parts: list[list[np.ndarray]] = field(default_factory=list)
    """features of each part of them, (N, D), by each network"""

    def features(self, network: int = -1) -> np.ndarray:
        """Return the features of all pictures by a network, (N, D)."""
        return np.concatenate([part[network] for part in self.parts])


@dataclass
class _Training:
    """What judges learn from the real training images of a domain."""

    small: list[np.ndarray] = field(default_factory=list)
    """for the classifier, (3, 64, 64) each"""
    parts: list[np.ndarray] = field(default_factory=list)
    """features by EfficientNet of each part of them, (N, 1280)"""

    def features(self) -> np.ndarray:
        """Return the features of all of them, (N, 1280)."""
        return np.concatenate(self.parts)

    def spread(self, count: int) -> np.ndarray:
        """Return the features of at most `count` of them, spread over the domain."""
        return self.features()[spread(len(self.small), count)]


class Jury:
    """An ImageNet network, a small classifier, and where asked for another network.

    Of pictures, which are seen as `RealImages.seen` has it, the network tells what it recognises,
    the classifier which domain they are of, and the last network how far sets of them differ.

    Args:
        images: real images; judges learn from up to 2000 training images of each domain.
        eye: the ImageNet network.
        other: another one for the distances.
        steps: number of steps of the classifier's training.

    Raises:
        UserError: too few training images can be read.
    """

    def __init__(
        self, images: RealImages, eye: EfficientNet, other: Network | None = None,
        steps: int = classifier.STEPS,
    ):  # fmt: skip
        self.images, self.eye, self.other, self.steps = images, eye, other, steps
        self.networks: list[Network] = [eye, other] if other else [eye]
        self.trainings = [self._look_at(domain) for domain in images.trains]
        images.check("training", (len(it.small) for it in self.trainings))
        train_a, train_b = (np.stack(it.small) for it in self.trainings)
        log.info("training the classifier on %d and %d images", len(train_a), len(train_b))
        self.classifier = classifier.train_classifier(train_a, train_b, steps=steps)
        guesses = [eye.guesses(it.features()) for it in self.trainings]
        self.telling = [recognition.telling_classes(*guesses[::sign]) for sign in (-1, 1)]
        self.compared_with: list[np.ndarray] = []

    def _look_at(self, domain):
        found = _Training()
        seen = self.images.seen(self.images.training(domain, _JUDGED_BY))
        while some := list(islice(seen, CHUNK)):
            found.small += map(_small, some)
            found.parts.append(self.eye(some))
        return found

    def ask(self, opinion: Opinion, pictures: Iterable[Image.Image]) -> None:
        """Add to an opinion that on more pictures, at most `CHUNK`."""
        seen = list(self.images.seen(pictures))
        opinion.odds += self.classifier.logits(np.stack([_small(it) for it in seen])).tolist()
        opinion.parts.append([network(seen) for network in self.networks])

    def shares(self, of_fakes: list[Opinion], of_reals: list[Opinion]) -> list[dict[str, float]]:
        """Return what is recognised as of the target domain, and what is taken for it.

        Args:
            of_fakes: on the translations of the direction from A, and of that from B.
            of_reals: on the test images of A and of B.

        Returns the metrics of each direction; none are recognised where no class tells the target.
        """
        directions = []
        for index, classes in enumerate(self.telling):
            sign = -1 if index else 1  # the classifier's log-odds are those of domain B
            asked = {
                "": of_fakes[index], "target_": of_reals[1 - index], "source_": of_reals[index]
            }  # fmt: skip
            found: dict[str, float] = {}
            for name, it in asked.items():
                if classes:
                    guesses = self.eye.guesses(it.features(0))
                    found[f"{name}recognised"] = recognition.share_of(guesses, classes)
            for name, it in asked.items():
                found[f"{name}taken_for_target"] = float(np.mean(sign * np.array(it.odds) > 0))
            directions.append(found)
        return directions

    def distances(self, of_fakes: list[Opinion], of_reals: list[Opinion]) -> list[dict[str, float]]:
        """Return the distances to the real test images of the target domain.

        The arguments are those of `shares`. Returns the metrics of each direction: none where there
        are fewer than `FEWEST` images.
        """
        counts = [len(it.odds) for it in of_fakes]
        trained = [self._training_features(1 - i, count) for i, count in enumerate(counts)]
        if min(*counts, *map(len, trained)) < FEWEST:
            return [{}, {}]
        self.compared_with = trained
        return [
            distances.compare(
                of_reals[1 - index].features(),
                {
                    "": of_fakes[index].features(),
                    "_untranslated": of_reals[index].features(),
                    "_real": trained[index],
                },
            )
            for index in (0, 1)
        ]

    def _training_features(self, domain, count):
        """Return features of at most `count` training images of A (0) or B (1)."""
        if not self.other:  # seen already
            return self.trainings[domain].spread(count)
        pictures = self.images.training(self.images.trains[domain], count)
        return self.other(self.images.seen(pictures))

    def facts(self, names: list[str], of_reals: list[Opinion]) -> dict[str, dict]:
        """Return for a report who judged, and by what.

        Args:
            names: of both directions.
            of_reals: on the test images of A and of B.
        """
        right = [np.array(of_reals[0].odds) <= 0, np.array(of_reals[1].odds) > 0]
        facts: dict[str, dict] = {
            "classifier": {
                "image_size": classifier.SIZE,
                "steps": self.steps,
                "trained_on": self.classifier.trained_on,
                "held_out": self.classifier.held_out,
                "held_out_accuracy": self.classifier.held_out_accuracy,
                "test_accuracy": float(np.mean([answers.mean() for answers in right])),
            },
            "recognition": {
                "network": self.eye.name,
                "least_share": recognition.LEAST,
                "times_the_source's": recognition.TIMES,
                "training_images": [len(it.small) for it in self.trainings],
                "classes": {
                    name: {str(number): list(shares) for number, shares in classes.items()}
                    for name, classes in zip(names, self.telling)
                },
            },
        }
        if self.compared_with:
            network = self.networks[-1]
            facts["features"] = {
                "network": network.name,
                "input": [3, network.height, network.width],
                "dimensions": network.dimensions,
                "kid_halves": distances.HALVES,
                "kid_seed": distances.SEED,
                "real_training_images": [len(features) for features in self.compared_with],
            }
        return facts


def _small(picture: Image.Image) -> np.ndarray:
    """Turn a picture into what the classifier takes, (3, 64, 64)."""
    return resized_chw(picture, classifier.SIZE, classifier.SIZE)
