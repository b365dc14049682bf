"""The cheap metrics of a training in progress, on some test images, and which epoch was best."""

import json
import logging
import os
from pathlib import Path

import numpy as np

from cyclegan_ms.config import Config
from cyclegan_ms.data.domains import Ranges, load_tests, sample_images
from cyclegan_ms.errors import TrainingStopped
from cyclegan_ms.evaluate.metrics import mean_metrics, require_skimage
from cyclegan_ms.evaluate.patches import METRIC, patch_distance
from cyclegan_ms.evaluate.run import mean_of_directions, measure
from cyclegan_ms.training.cyclegan import Networks
from cyclegan_ms.training.progress import drop_lines, read_metrics

__all__ = ["EpochEvaluation"]

log = logging.getLogger(__name__)

MOST_IMAGES = 50
"""Number of test images of a domain that it looks at, at most."""


class EpochEvaluation:
    """The cheap metrics of some epochs of a training, a line each of RUN/evaluation.jsonl.

    They are the `image_metrics` of up to 50 test images per domain, spread over it, as means per
    source domain (`cycle_l1_a`, ...) and over both (`cycle_l1`), and the `patch_distance` of the
    translations to the target domain. The best epoch so far is the one where that is lowest: the
    cycle, which generators that change nothing have perfect, says nothing of the target domain.

    Args:
        config: train.evaluate_every, data and model are used.
        output: the run folder.
        ranges: of the training images.

    Raises:
        UserError: test images or scikit-image are missing where they are needed.
    """

    def __init__(self, config: Config, output, ranges: Ranges = (None, None)):
        self.every = config.train.evaluate_every
        self.path = Path(output) / "evaluation.jsonl"
        if self.every:
            require_skimage()
            tests = load_tests(config, ranges)
            self.images = [sample_images(domain, config.data, MOST_IMAGES) for domain in tests]

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
        for (there, back), images, targets in zip(directions, self.images, self.images[::-1]):
            translations, rows = zip(*(measure(there, back, real) for real in images))
            fakes = np.stack([it.fake for it in translations])
            means.append({**mean_metrics(rows), METRIC.key: patch_distance(fakes, targets)})
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
                f"Earlier states are whole: make room, and go on with --resume"
            ) from error
        text = "  ".join(f"{name} {value:.3f}" for name, value in both.items())
        log.info("test images  %s%s", text, "  (best so far)" if best else "")
        return best
