"""`evaluate`: the metrics of a finished run on its test images."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

import mindspore as ms

from cyclegan_ms.config import Config, load_config
from cyclegan_ms.data.domains import Domain, find_root, load_split, load_tests, to_square
from cyclegan_ms.data.images import resized_chw, view_of
from cyclegan_ms.data.ranges import Range
from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate import classifier, distances, patches, recognition
from cyclegan_ms.evaluate.efficientnet import EfficientNet
from cyclegan_ms.evaluate.features import FeatureNetwork, Network
from cyclegan_ms.evaluate.metrics import (
    IMAGE_METRICS,
    INVERTED,
    Metric,
    Translation,
    image_metrics,
    mean_metrics,
    require_skimage,
)
from cyclegan_ms.files import find_weights, settings_of, shown
from cyclegan_ms.model.kernels import kind_of
from cyclegan_ms.model.operators import for_pictures
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import FILES, load_generator

__all__ = ["CASES", "FEWEST", "METRICS", "Case", "evaluate", "mean_of_directions", "measure"]

log = logging.getLogger(__name__)

METRICS = (
    Metric("images", "test images", "d", averaged=False),
    *IMAGE_METRICS,
    patches.METRIC,
    *recognition.METRICS,
    *distances.METRICS,
    *classifier.METRICS,
)
"""All that a report or a line of evaluation.jsonl may hold for a direction, in the order shown."""


CASES = 6
"""Number of best and of worst cases of a direction to keep and to show."""

_CHUNK = 64
"""Test images that are held at once; a multiple of the batches that pictures are judged in."""

_JUDGED_BY = 2000
"""Training images of a domain that judges learn from, at most."""

FEWEST = 4
"""Images that distances between sets are computed for, at least."""


@dataclass
class Case:
    """A test image, what the generators make of it, and how good that is."""

    name: str
    real: Image.Image
    fake: Image.Image
    rec: Image.Image
    metrics: dict[str, float]
    """`image_metrics`, and `target_logit`: the classifier's log-odds that `fake` is of the target
    domain"""


def measure(there, back, real: np.ndarray) -> tuple[Translation, dict[str, float]]:
    """Translate an image there and back; return that and its `image_metrics`.

    Args:
        there: a generator, as a cell.
        back: the generator of the other direction.
        real: an image (C, S, S) in [-1, 1] of the domain that `there` takes.
    """

    def run(generator, image):
        return generator(ms.Tensor(image[None])).asnumpy()[0]

    fake = run(there, real)
    rec = run(back, fake)
    # Where one domain is gray, a generator cannot take its own target domain.
    idt = run(back, real) if fake.shape == real.shape else None
    translation = Translation(real, fake, rec, idt)
    return translation, image_metrics(translation)


def evaluate(
    run, config: Config | None = None, features=None, steps: int = classifier.STEPS
) -> tuple[dict, dict[str, list[Case]]]:
    """Compute all metrics of a run's generators on all test images, each a square of
    `test_size` pixels.

    Everything is per direction, for the test images of its source domain:

    - cycle L1, PSNR, SSIM: how near an image comes to itself, there and back, by values in [-1, 1].
    - identity L1: what a generator changes in an image that is of its target domain already.
    - inverted: share of translations whose brightness correlates with the original's below -0.2.
    - recognised as the target: share of translations whose first guess by EfficientNet-Lite0, an
      ImageNet network, is a class that tells the target domain from the source, see
      `telling_classes`; beside it that of real and untranslated ones.
    - FID and KID, by the features of that network or of `features`: distances between translated
      and real test images of the target domain; beside them those of untranslated and of real
      training images.
    - taken for the target domain: share of translations so judged by a small classifier that was
      trained on the real training images; beside it what it says of real and untranslated ones.

    Memory does not grow with the number of pictures, but for their numbers and features: they are
    held 64 at a time, judges see up to 2000 training images of a domain, spread over it, and of a
    direction the 6 best and the 6 worst cases are kept.

    `METRICS` holds the exact definitions, which the report's page shows. What judges whole images
    sees them as 8-bit pictures, in gray if one domain is gray. Images that cannot be read, of all
    that are looked at, are left out and listed as `left_out`.

    Args:
        run: folder with g_ab.ckpt and g_ba.ckpt, or a shipped name.
        config: settings of which the sections data and model are used; None takes the run's.
        features: ONNX file of another network for the distances, see `FeatureNetwork`.
        steps: number of steps of the classifier's training.

    Returns what goes into report.json, and the cases of each direction that are kept.

    Raises:
        UserError: generators, images or packages are missing.
    """
    began = time.monotonic()
    require_skimage()
    run = find_weights(run, "--checkpoint")
    config = config or load_config(settings_of(run))
    eye = EfficientNet()
    networks: tuple[Network, ...] = (eye, FeatureNetwork(features)) if features else (eye,)
    cells, specs = _load_generators(run, config)
    ranges = [Range(*spec.in_range) if spec.in_range else None for spec in specs]
    images = _Images(config, ranges, *((FEWEST, FEWEST) if features else (1, 2)))

    trainings = [_look_at(images.training(it, _JUDGED_BY), images, eye) for it in images.trains]
    images.check("training", (len(it.small) for it in trainings))
    judge = _train_judge(trainings, steps)
    telling = _telling(eye, trainings)
    found = [
        _translate(*place, images, judge, networks)
        for place in zip(specs, cells, cells[::-1], images.tests, (1, -1))
    ]
    images.check("test", (len(it.metrics) for it in found))
    directions = {
        spec.name: {"images": len(it.metrics), **mean_metrics(it.metrics), **recognised, **shares}
        for spec, it, recognised, shares in zip(
            specs, found, _recognised(eye, telling, found), _shares(found)
        )
    }
    counts = [len(it.metrics) for it in found]
    if features:
        of_trainings = _training_features(networks[-1], counts, images)
    else:  # seen already
        of_trainings = [trainings[1 - i].spread(count) for i, count in enumerate(counts)]
    enough = min(counts) >= FEWEST <= min(map(len, of_trainings))
    for index, (spec, it) in enumerate(zip(specs, found)):
        if not enough:
            break
        others = {
            "": it.of_fakes.features(),
            "_untranslated": it.of_reals.features(),
            "_real": of_trainings[index],
        }
        tests = found[1 - index].of_reals.features()
        directions[spec.name] |= distances.compare(tests, others)

    report = {
        "checkpoint": shown(run),
        "epoch": specs[0].epoch,
        "data_root": shown(config.data.root),
        "image_size": config.data.test_size,
        "crop_size": config.data.crop_size,
        "preprocess": config.data.preprocess,
        "directions": directions,
        "mean": mean_of_directions(directions.values()),
        "left_out": sorted(shown(os.path.relpath(path, images.root)) for path in images.left_out),
        "inverted_below": INVERTED,
        "max_images": config.data.max_images,
        "judged_in_gray": images.gray,
        "classifier": {
            "image_size": classifier.SIZE,
            "steps": steps,
            "trained_on": judge.trained_on,
            "held_out": judge.held_out,
            "held_out_accuracy": judge.held_out_accuracy,
            "test_accuracy": _accuracy(*(it.of_reals.odds for it in found)),
        },
    }
    report["recognition"] = {
        "network": eye.name,
        "least_share": recognition.LEAST,
        "times_the_source's": recognition.TIMES,
        "training_images": [len(it.small) for it in trainings],
        "classes": {
            spec.name: {str(number): list(shares) for number, shares in classes.items()}
            for spec, classes in zip(specs, telling)
        },
    }
    if enough:
        report["features"] = {
            "network": networks[-1].name,
            "input": [3, networks[-1].height, networks[-1].width],
            "dimensions": networks[-1].dimensions,
            "kid_halves": distances.HALVES,
            "kid_seed": distances.SEED,
            "real_training_images": [len(features) for features in of_trainings],
        }
    report["seconds"] = round(time.monotonic() - began, 1)
    return report, {spec.name: it.cases for spec, it in zip(specs, found)}


def mean_of_directions(directions: Iterable[dict]) -> dict[str, float]:
    """Return the means over both directions, of the metrics that have one."""
    first, second = directions
    keys = [m.key for m in METRICS if m.averaged and m.key in first and m.key in second]
    return {key: (first[key] + second[key]) / 2 for key in keys}


def _load_generators(run, config):
    """Load g_ab and g_ba of a run, as cells, and their specs.

    Raises UserError unless the files are both directions of one run, and of this one.
    """
    # As in training, at any batch size, so that an evaluation there and one here are the same to
    # the last digits.
    with for_pictures(kind_of(config.data.batch_pixels, config.model.width, batches=2)):
        cells, specs = zip(*(load_generator(Path(run) / name) for name in FILES.values()))
    for (direction, name), spec in zip(FILES.items(), specs):
        asked = GeneratorSpec.of(vars(config.model), direction, config.data.domains)
        channels = (asked.in_channels, asked.out_channels)
        if spec.direction != direction or (spec.in_channels, spec.out_channels) != channels:
            raise UserError(
                f"{run}/{name}: a generator {spec.direction} of {spec.in_channels} to "
                f"{spec.out_channels} channels; this run's config.yaml asks for {direction} of "
                f"{channels[0]} to {channels[1]}"
            )
    if specs[0].name == specs[1].name:
        raise UserError(f"{run}: both directions are called {specs[0].name}")
    return cells, specs


class _Images:
    """The real images of an evaluation, and those that turned out to be unreadable.

    Raises UserError where a domain has too few test or training images.
    """

    def __init__(self, config: Config, ranges, least_test: int, least_train: int):
        self.root, self.data = find_root(config.data.root), config.data
        # Where one domain is gray, colour would tell all: everybody sees brightness then.
        self.gray = config.model.channels_a != config.model.channels_b
        self.least = {"test": least_test, "training": least_train}
        self.trains = load_split(config, "train", ranges)
        self.tests = load_tests(config, [domain.range for domain in self.trains])
        self.left_out = {path for d in (*self.tests, *self.trains) for path in d.left_out}
        self.check("test", map(len, self.tests))
        self.check("training", map(len, self.trains))

    def check(self, kind: str, counts: Iterable[int]) -> None:
        """Raise UserError if a domain has too few images of a kind, test or training."""
        if min(counts) < self.least[kind]:
            raise UserError(
                f"data.root {self.root}: an evaluation needs at least {self.least[kind]} {kind} "
                f"images of each domain that can be read"
            )

    def squares(self, domain: Domain, indices=None) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield file and values, (C, S, S) in [-1, 1], of the images that can be read."""
        for index in range(len(domain)) if indices is None else indices:
            path = domain.where(index)
            try:
                image = domain.load(index)
            except OSError as error:
                if path not in self.left_out:
                    log.warning("left out %s: %s", shown(path), error)
                    self.left_out.add(path)
                continue
            yield path, to_square(image, self.data, domain.finished)

    def training(self, domain: Domain, count: int) -> Iterator[Image.Image]:
        """Yield at most `count` readable training images, spread over the domain."""
        readable = [i for i in range(len(domain)) if domain.where(i) not in self.left_out]
        places = _spread(len(readable), count)
        for _, square in self.squares(domain, [readable[place] for place in places]):
            yield view_of(square)

    def seen(self, pictures: Iterable[Image.Image]) -> Iterator[Image.Image]:
        """Yield pictures as they are shown to the classifier and to the networks."""
        return (picture.convert("L") if self.gray else picture for picture in pictures)


@dataclass
class _Judged:
    """What the judges of whole images say of some pictures."""

    odds: list[float] = field(default_factory=list)
    """the classifier's log-odds that a picture is of domain B"""
    parts: list[list[np.ndarray]] = field(default_factory=list)
    """features of each part of them, (N, D), by each network"""

    def add(self, pictures: list[Image.Image], judge, networks) -> None:
        """Ask about more pictures, as they are shown to all."""
        self.odds += judge.logits(np.stack([_small(it) for it in pictures])).tolist()
        self.parts.append([network(pictures) for network in networks])

    def features(self, network: int = -1) -> np.ndarray:
        """Return the features of all pictures by a network, (N, D)."""
        return np.concatenate([part[network] for part in self.parts])


@dataclass
class _Found:
    """What is kept of a direction's test images: numbers of all of them, pictures of few."""

    metrics: list[dict[str, float]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    of_reals: _Judged = field(default_factory=_Judged)
    of_fakes: _Judged = field(default_factory=_Judged)


def _translate(spec, there, back, domain, sign, images: _Images, judge, networks) -> _Found:
    """Translate every test image of a direction that can be read, and have it judged.

    `sign` is 1 where the target domain is B, and -1 where it is A.
    """
    log.info("%s: %d images", spec.name, len(domain))
    found, all_cases = _Found(), _cases(there, back, images.squares(domain))
    while cases := list(islice(all_cases, _CHUNK)):
        found.of_reals.add(list(images.seen(case.real for case in cases)), judge, networks)
        found.of_fakes.add(list(images.seen(case.fake for case in cases)), judge, networks)
        for case, odds in zip(cases, found.of_fakes.odds[-len(cases) :]):
            case.metrics["target_logit"] = sign * odds
        found.metrics += [case.metrics for case in cases]
        found.cases = _extremes(found.cases + cases)
    return found


def _cases(there, back, squares) -> Iterator[Case]:
    """Yield a case of each image: one for which no judge has been asked yet."""
    for path, real in squares:
        it, metrics = measure(there, back, real)
        real_picture, fake, rec = (view_of(pixels) for pixels in (it.real, it.fake, it.rec))
        yield Case(path.name, real_picture, fake, rec, metrics)


def _extremes(cases: list[Case]) -> list[Case]:
    """Keep the best and the worst cases; all of them in their order, where they are few."""
    if len(cases) <= 2 * CASES:
        return cases
    ranked = sorted(cases, key=lambda case: -case.metrics["target_logit"])
    return ranked[:CASES] + ranked[-CASES:]


def _small(picture: Image.Image) -> np.ndarray:
    """Turn a picture into what the classifier takes, (3, 64, 64)."""
    return resized_chw(picture, classifier.SIZE, classifier.SIZE)


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
        return self.features()[_spread(len(self.small), count)]


def _look_at(pictures, images: _Images, eye: EfficientNet) -> _Training:
    found, seen = _Training(), images.seen(pictures)
    while some := list(islice(seen, _CHUNK)):
        found.small += map(_small, some)
        found.parts.append(eye(some))
    return found


def _telling(eye: EfficientNet, trainings: list[_Training]) -> list[dict]:
    """Return the classes that tell the target domain of each direction."""
    guesses = [eye.guesses(it.features()) for it in trainings]
    return [recognition.telling_classes(guesses[1 - i], guesses[i]) for i in (0, 1)]


def _recognised(eye: EfficientNet, telling, found: list[_Found]) -> list[dict[str, float]]:
    """Return what is recognised as of the target domain, per direction that classes tell."""
    shares: list[dict[str, float]] = []
    for index, (classes, it) in enumerate(zip(telling, found)):
        asked = {
            "": it.of_fakes, "target_": found[1 - index].of_reals, "source_": it.of_reals
        }  # fmt: skip
        shares.append(
            {
                f"{name}recognised": recognition.share_of(eye.guesses(judged.features(0)), classes)
                for name, judged in asked.items() if classes
            }
        )  # fmt: skip
    return shares


def _train_judge(trainings: list[_Training], steps: int) -> classifier.Classifier:
    """Train a classifier on real training images."""
    train_a, train_b = (np.stack(it.small) for it in trainings)
    log.info("training the classifier on %d and %d images", len(train_a), len(train_b))
    return classifier.train_classifier(train_a, train_b, steps=steps)


def _shares(found: list[_Found]) -> list[dict[str, float]]:
    """Return what is taken for the target domain, per direction."""
    shares = []
    for index, it in enumerate(found):
        sign = -1 if index else 1  # the classifier's log-odds are those of domain B
        asked = {
            "": it.of_fakes, "target_": found[1 - index].of_reals, "source_": it.of_reals
        }  # fmt: skip
        shares.append(
            {
                f"{name}taken_for_target": float(np.mean(sign * np.array(judged.odds) > 0))
                for name, judged in asked.items()
            }
        )
    return shares


def _accuracy(odds_a: list[float], odds_b: list[float]) -> float:
    """Return the mean share of both domains that the classifier tells rightly."""
    return float(np.mean([np.mean(np.array(odds_a) <= 0), np.mean(np.array(odds_b) > 0)]))


def _training_features(network: Network, counts, images: _Images) -> list[np.ndarray]:
    """Return features of training images of the target domain, as many as translations, at most."""
    return [
        network(images.seen(images.training(images.trains[1 - index], count)))
        for index, count in enumerate(counts)
    ]


def _spread(total, count):
    """Return at most `count` places, spread over `total`."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)
