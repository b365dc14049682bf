"""What a training is about to do: images, first weights and length, checked before it begins."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from cyclegan_ms.config import Config
from cyclegan_ms.data.domains import Domain
from cyclegan_ms.data.splits import load_sample_tests, load_split, load_tests
from cyclegan_ms.data.stream import epoch_steps
from cyclegan_ms.evaluate.metrics import require_skimage
from cyclegan_ms.training.schedule import Schedule
from cyclegan_ms.training.start import Start, read_start
from cyclegan_ms.training.tensorboard import require_tensorboard
from cyclegan_ms.weights.imagenet import require_efficientnet

__all__ = ["Plan"]

log = logging.getLogger(__name__)

FEW_STEPS = 500
"""Number of steps below which a training is called a trial: the quickstart's drawings take 768."""

FEW_IMAGES = 50
"""Number of images of a domain below which there is advice; the quickstart has 64 drawings."""


@dataclass(frozen=True)
class Plan:
    """A training that can begin."""

    config: Config
    """all settings, with whole paths, so that the run can go on from any directory"""
    output: Path
    """the run folder"""
    resume: bool
    """whether it goes on with the run there"""
    domains: tuple[Domain, Domain]
    """the images of A and of B to train on"""
    samples: tuple[Domain, Domain] | None
    """test images, some of which are drawn as it goes"""
    tests: tuple[Domain, Domain] | None
    """test images that epochs are evaluated on"""
    start: Start | None
    """weights to begin with instead of fresh ones"""

    @classmethod
    def of(cls, config: Config, output: Path, resume: bool) -> "Plan":
        """Look at what a training reads: packages, images, weights. Who holds the run folder looks
        at that.

        Raises:
            UserError: something is missing or does not fit.
        """
        _require_packages(config)
        root = Path(config.data.root).expanduser()
        if root.exists():
            config = replace(config, data=replace(config.data, root=str(root.resolve())))
        domains = load_split(config, "train")
        ranges, tests, samples = [domain.range for domain in domains], None, None
        if config.train.evaluate_every:
            tests = load_tests(config, ranges)
        if config.train.sample_every:
            samples = tests or load_sample_tests(config, domains)
        start = None if resume else read_start(config)
        if start:
            train = replace(config.train, init_from=str(start.source))
            config = replace(config, train=train)
        return cls(config, output, resume, domains, samples, tests, start)

    def schedule(self, workers: int) -> Schedule:
        """Return the steps that it takes on so many workers."""
        per_epoch = epoch_steps(*self.domains, self.config.data.batch_size * workers)
        return Schedule.of(self.config, per_epoch, workers)

    def is_over(self, schedule: Schedule, done: int) -> bool:
        """Return whether no step is left after `done`, and say why."""
        if done < schedule.last:
            return False
        train = self.config.train
        limited = schedule.last < schedule.per_epoch * train.epochs
        limit = f"train.max_steps {train.max_steps}" if limited else f"train.epochs {train.epochs}"
        log.info("nothing left to do: %d steps are done, and %s ends there", done, limit)
        return True

    def say(self, schedule: Schedule, done: int) -> None:
        """Log what is ahead after `done` steps, and what would help it."""
        (a, b), (name_a, name_b) = self.domains, self.config.data.domains
        last = schedule.last
        ahead = f"from step {done + 1} of {last}" if done else f"{last} in all"
        log.info(
            "%d images of %s, %d of %s; %d steps an epoch, %s, into %s",
            len(a), name_a, len(b), name_b, schedule.per_epoch, ahead, self.output,
        )  # fmt: skip
        log.info("to watch it: %s", self.output / "index.html")
        few, name = min((len(a), name_a), (len(b), name_b))
        free = self.config.model.variant == "paper" and not self.config.loss.diff_augment
        if few < FEW_IMAGES and free and not done:
            log.info(
                "only %d images of %s: --loss.diff_augment true helps, and so does "
                "--train.init_from with weights of a related pair", few, name,
            )  # fmt: skip
        if schedule.last < FEW_STEPS:
            log.info(
                "only %d steps: pictures usually look right after some thousand", schedule.last
            )


def _require_packages(config):
    """Raise UserError unless all packages are installed that a training will need."""
    if config.train.tensorboard:
        require_tensorboard()
    if config.train.evaluate_every:
        require_skimage()
    if config.loss.lambda_features or config.train.evaluate_every:
        require_efficientnet()
