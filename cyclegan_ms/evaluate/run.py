"""`evaluate`: the metrics of a finished run on its test images."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import mindspore as ms

from cyclegan_ms.config import Config
from cyclegan_ms.data.domains import Domain, find_root, load_split, load_tests, to_square
from cyclegan_ms.data.images import from_chw, resized_chw
from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate import classifier, distances
from cyclegan_ms.evaluate.features import FeatureNetwork
from cyclegan_ms.evaluate.metrics import (
    IMAGE_METRICS,
    INVERTED,
    Metric,
    Translation,
    image_metrics,
    mean_metrics,
    require_skimage,
)
from cyclegan_ms.files import shown
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import FILES, load_generator

__all__ = ["METRICS", "Case", "evaluate", "mean_of_directions", "measure"]

log = logging.getLogger(__name__)

METRICS = (
    Metric("images", "test images", "d", averaged=False),
    *IMAGE_METRICS,
    *classifier.METRICS,
    *distances.METRICS,
)
"""All that a report holds for a direction, in the order of its table."""


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
    run, config: Config, features=None, steps: int = classifier.STEPS
) -> tuple[dict, dict[str, list[Case]]]:
    """Compute all metrics of a run's generators on all test images, resized to data.crop_size.

    Everything is per direction, for the test images of its source domain:

    - cycle L1, PSNR, SSIM: how near an image comes to itself, there and back. L1 is the mean
      absolute difference of values in [-1, 1]; the other two compare 8-bit images.
    - identity L1: what a generator changes in an image that is of its target domain already.
    - inverted: share of translations whose brightness correlates with the original's below -0.2.
    - taken for the target domain: share of translations so judged by a small classifier that was
      trained on the real training images; beside it what it says of real and untranslated ones.
    - FID and KID, with `features`: distances between translated and real test images of the target
      domain; beside them those of untranslated and of real training images.

    `METRICS` holds the exact definitions, which the report's page shows. What judges whole images
    sees them as 8-bit pictures, in gray if one domain is gray. Images that cannot be read, in
    training or test folders, are left out and listed as `left_out`.

    Args:
        run: folder with g_ab.ckpt and g_ba.ckpt.
        config: the run's; the sections data and model are used.
        features: ONNX file of a network for the distances, see `FeatureNetwork`; None leaves them
            out.
        steps: number of steps of the classifier's training.

    Returns what goes into report.json, and the test images of each direction.

    Raises:
        UserError: generators, images or packages are missing.
    """
    began = time.monotonic()
    require_skimage()
    network = FeatureNetwork(features) if features else None
    cells, specs = _load_generators(run, config)
    images = _Images(config, least_test=4 if network else 1, least_train=4 if network else 2)

    cases = _translate(cells, specs, images)
    judge, judged = _judge(cases, images, steps)
    directions = {
        spec.name: {
            "images": len(found),
            **mean_metrics(case.metrics for case in found),
            **shares,
        }
        for spec, found, shares in zip(specs, cases, judged)
    }
    if network:
        for spec, found in zip(specs, _distances(network, cases, images)):
            directions[spec.name] |= found

    report = {
        "checkpoint": shown(run),
        "epoch": specs[0].epoch,
        "data_root": shown(config.data.root),
        "image_size": images.size,
        "directions": directions,
        "mean": mean_of_directions(directions.values()),
        "left_out": sorted(shown(os.path.relpath(path, images.root)) for path in images.left_out),
        "inverted_below": INVERTED,
        "max_images": config.data.max_images,
        "judged_in_gray": images.gray,
        "classifier": judge,
    }
    if network:
        report["features"] = {
            "file": shown(features),
            "input": [3, network.height, network.width],
            "dimensions": network.dimensions,
            "kid_halves": distances.HALVES,
            "kid_seed": distances.SEED,
            "real_training_images": [
                min(judge["trained_on"][1 - index] + judge["held_out"][1 - index], len(found))
                for index, found in enumerate(cases)
            ],
        }
    report["seconds"] = round(time.monotonic() - began, 1)
    return report, dict(zip(directions, cases))


def mean_of_directions(directions: Iterable[dict]) -> dict[str, float]:
    """Return the means over both directions, of the metrics that have one."""
    first, second = directions
    keys = [metric.key for metric in METRICS if metric.averaged and metric.key in first]
    return {key: (first[key] + second[key]) / 2 for key in keys}


def _load_generators(run, config):
    """Load g_ab and g_ba of a run, as cells, and their specs.

    Raises UserError unless the files are both directions of one run, and of this one.
    """
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

    def __init__(self, config: Config, least_test: int, least_train: int):
        self.root, self.size = find_root(config.data.root), config.data.crop_size
        # Where one domain is gray, colour would tell all: everybody sees brightness then.
        self.gray = config.model.channels_a != config.model.channels_b
        self.tests = load_tests(config)
        self.trains = load_split(config, "train")
        self.least = {"test": least_test, "training": least_train}
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
            yield path, to_square(image, self.size)

    def training(self, domain: Domain, count: int) -> Iterator[Image.Image]:
        """Yield at most `count` readable training images, spread over the domain."""
        readable = [i for i in range(len(domain)) if domain.where(i) not in self.left_out]
        places = np.linspace(0, len(readable) - 1, min(count, len(readable))).astype(int)
        for _, square in self.squares(domain, [readable[place] for place in places]):
            yield from_chw(square)

    def seen(self, pictures: Iterable[Image.Image]) -> Iterator[Image.Image]:
        """Yield pictures as they are shown to the classifier and the network of features."""
        return (picture.convert("L") if self.gray else picture for picture in pictures)


def _translate(cells, specs, images: _Images) -> list[list[Case]]:
    """Translate every test image that can be read: a list of cases per direction."""
    cases = []
    for spec, there, back, domain in zip(specs, cells, cells[::-1], images.tests):
        log.info("%s: %d images", spec.name, len(domain))
        found = []
        for path, real in images.squares(domain):
            it, metrics = measure(there, back, real)
            real_picture, fake, rec = (from_chw(pixels) for pixels in (it.real, it.fake, it.rec))
            found.append(Case(path.name, real_picture, fake, rec, metrics))
        cases.append(found)
    images.check("test", map(len, cases))
    return cases


def _small(pictures: Iterable[Image.Image]) -> np.ndarray:
    """Turn pictures into what the classifier takes, (N, 3, 64, 64)."""
    side = classifier.SIZE
    return np.stack([resized_chw(picture, side, side) for picture in pictures])


def _judge(cases: list[list[Case]], images: _Images, steps: int) -> tuple[dict, list[dict]]:
    """Ask a classifier, trained on the real training images; note its odds in the cases.

    Returns facts about the classifier, and its shares per direction.
    """
    squares = [[from_chw(s) for _, s in images.squares(domain)] for domain in images.trains]
    images.check("training", map(len, squares))
    train_a, train_b = (_small(images.seen(pictures)) for pictures in squares)
    log.info("training the classifier on %d and %d images", len(train_a), len(train_b))
    judge = classifier.train_classifier(train_a, train_b, steps=steps)
    reals = [_small(images.seen(case.real for case in found)) for found in cases]
    shares = []
    for index, found in enumerate(cases):
        sign = -1 if index else 1  # the classifier's log-odds are those of domain B
        fakes = _small(images.seen(case.fake for case in found))
        asked = {"": fakes, "target_": reals[1 - index], "source_": reals[index]}
        logits = {name: sign * judge.logits(pictures) for name, pictures in asked.items()}
        for case, logit in zip(found, logits[""].tolist()):
            case.metrics["target_logit"] = logit
        shares.append(
            {f"{name}taken_for_target": float(np.mean(it > 0)) for name, it in logits.items()}
        )
    facts = {
        "image_size": classifier.SIZE,
        "steps": steps,
        "trained_on": judge.trained_on,
        "held_out": judge.held_out,
        "held_out_accuracy": judge.held_out_accuracy,
        "test_accuracy": judge.accuracy(*reals),
    }
    return facts, shares


def _distances(
    network: FeatureNetwork, cases: list[list[Case]], images: _Images
) -> list[dict[str, float]]:
    """Compare features of translated, untranslated and training images with real test images."""
    reals = [network(images.seen(case.real for case in found)) for found in cases]
    compared = []
    for index, found in enumerate(cases):
        log.info("features of translation %d of 2", index + 1)
        others = {
            "": network(images.seen(case.fake for case in found)),
            "_untranslated": reals[index],
            "_real": network(images.seen(images.training(images.trains[1 - index], len(found)))),
        }
        compared.append(distances.compare(reals[1 - index], others))
    return compared
