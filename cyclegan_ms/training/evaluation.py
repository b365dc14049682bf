"""The cheap metrics of a training in progress, on some test images, and which epoch was best."""

import json
import logging
import os
from pathlib import Path

import numpy as np

from cyclegan_ms.config import Config
from cyclegan_ms.data.domains import Domain
from cyclegan_ms.data.images import view_of
from cyclegan_ms.data.squares import sample_images
from cyclegan_ms.errors import TrainingStopped
from cyclegan_ms.evaluate.distances import kernel_distance
from cyclegan_ms.evaluate.efficientnet import EfficientNet
from cyclegan_ms.evaluate.jury import FEWEST
from cyclegan_ms.evaluate.metrics import mean_metrics
from cyclegan_ms.evaluate.patches import METRIC, patch_distance
from cyclegan_ms.evaluate.recognition import share_of, telling_classes
from cyclegan_ms.evaluate.run import mean_of_directions, measure
from cyclegan_ms.training.cyclegan import Networks
from cyclegan_ms.training.progress import drop_lines, read_metrics
from cyclegan_ms.training.resume import resume_command

__all__ = ["EpochEvaluation"]

log = logging.getLogger(__name__)

MOST_IMAGES = 50
"""Number of test images of a domain that it looks at, at most."""
LEARNT_FROM = 200
"""Number of training images of a domain that the classes which tell it are found in, at most."""


class EpochEvaluation:
    """The cheap metrics of some epochs of a training, a line each of RUN/evaluation.jsonl.

    They are the `image_metrics` of up to 50 test images per domain, spread over it, as means per
    source domain (`cycle_l1_a`, ...) and over both (`cycle_l1`), and of the translations the
    `patch_distance` to the target domain, the kernel distance (`kid`) by EfficientNet's features,
    and the share that is `recognised`, by classes found in 200 training images. The best epoch so
    far is the one where the distance of patches is lowest: the cycle, which generators that change
    nothing have perfect, says nothing of the target domain.

    Args:
        config: train.evaluate_every, data and model are used.
        output: the run folder.
        trains: the training images.
        tests: the test images; None evaluates nothing.
    """

    def __init__(
        self, config: Config, output, trains: tuple[Domain, Domain],
        tests: tuple[Domain, Domain] | None,
    ):  # fmt: skip
        self.every = config.train.evaluate_every if tests else 0
        self.path = Path(output) / "evaluation.jsonl"
        if tests:
            self.images = [sample_images(domain, config.data, MOST_IMAGES) for domain in tests]
            self.eye = _Eye(config, trains, self.images)

    def state(self) -> int:
        """Return what a resumed training needs to write the same lines."""
        return self.path.stat().st_size if self.path.exists() else 0

    def restore(self, state: int) -> None:
        """Go back to a state: drop lines written after it, they will be written again."""
        if self.path.exists():
            drop_lines(self.path, state)

    def end_epoch(self, networks: Networks, epoch: int, step: int) -> bool:
        """Evaluate if it is due, and return whether this epoch is the best so far.

        Raises:
            TrainingStopped: the line cannot be written.
        """
        if not self.every or epoch % self.every:
            return False
        directions = ((networks.g_ab, networks.g_ba), (networks.g_ba, networks.g_ab))
        means = []
        for place, (there, back) in enumerate(directions):
            images, targets = self.images[place], self.images[1 - place]
            translations, rows = zip(*(measure(there, back, real) for real in images))
            fakes = np.stack([it.fake for it in translations])
            distance = {METRIC.key: patch_distance(fakes, targets)}
            means.append({**mean_metrics(rows), **distance, **self.eye.metrics(fakes, place)})
        both = mean_of_directions(means)
        row = {"epoch": epoch, "step": step, **both}
        for letter, values in zip("ab", means):
            row |= {f"{name}_{letter}": value for name, value in values.items()}
        earlier = read_metrics(self.path) if self.path.exists() else []
        best = all(both[METRIC.key] < line[METRIC.key] for line in earlier if METRIC.key in line)
        try:
            with open(self.path, "ab") as file:
                file.write(json.dumps(row).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())  # on the disk before a state counts on it
        except OSError as error:
            raise TrainingStopped(
                f"{self.path}: {error.strerror or error}.\n"
                f"Earlier states are whole: make room, then {resume_command(self.path.parent)}"
            ) from error
        text = "  ".join(f"{name} {value:.3f}" for name, value in both.items())
        log.info("test images  %s%s", text, "  (best so far)" if best else "")
        return best


class _Eye:
    """What an ImageNet network says of translations.

    Args:
        config: the sections data and model are used.
        trains: the training images.
        tests: test images of A and of B, (N, C, S, S) each.
    """

    def __init__(self, config, trains, tests):
        self.network = EfficientNet()
        self.gray = config.model.channels_a != config.model.channels_b  # else colour tells all
        guesses = [
            self.network.guesses(self._features(sample_images(domain, config.data, LEARNT_FROM)))
            for domain in trains
        ]
        self.telling = [telling_classes(guesses[1 - place], guesses[place]) for place in (0, 1)]
        self.targets = [self._features(images) for images in tests[::-1]]

    def _features(self, images):
        pictures = map(view_of, images)
        return self.network(it.convert("L") if self.gray else it for it in pictures)

    def metrics(self, fakes: np.ndarray, place: int) -> dict[str, float]:
        """Return metrics of translations (N, C, S, S) from A (`place` 0) or B (1), by key."""
        features, target, found = self._features(fakes), self.targets[place], {}
        if min(len(features), len(target)) >= FEWEST:
            found["kid"] = kernel_distance(features, target, halves=2)[0]
        if self.telling[place]:
            guesses = self.network.guesses(features)
            found["recognised"] = share_of(guesses, self.telling[place])
        return found
