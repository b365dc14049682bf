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
from cyclegan_ms.data.images import view_of
from cyclegan_ms.data.ranges import Range
from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate import classifier, distances, patches, recognition
from cyclegan_ms.evaluate.efficientnet import EfficientNet
from cyclegan_ms.evaluate.features import FeatureNetwork
from cyclegan_ms.evaluate.images import RealImages
from cyclegan_ms.evaluate.jury import CHUNK, FEWEST, Jury, Opinion
from cyclegan_ms.evaluate.metrics import (
    IMAGE_METRICS,
    INVERTED,
    Metric,
    Translation,
    image_metrics,
    mean_metrics,
    require_skimage,
)
from cyclegan_ms.files import GENERATOR_FILES, find_weights, settings_of, shown
from cyclegan_ms.model.kernels import kind_of
from cyclegan_ms.model.operators import for_pictures
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import load_generator

__all__ = ["CASES", "METRICS", "Case", "evaluate", "mean_of_directions", "measure"]

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
    run = find_weights(run, "run")
    config = config or load_config(settings_of(run))
    eye, other = EfficientNet(), FeatureNetwork(features) if features else None
    cells, specs = _load_generators(run, config)
    ranges = [Range(*spec.in_range) if spec.in_range else None for spec in specs]
    images = RealImages(config, ranges, *((FEWEST, FEWEST) if other else (1, 2)))

    jury = Jury(images, eye, other, steps)
    found = [
        _translate(*place, images, jury)
        for place in zip(specs, cells, cells[::-1], images.tests, (1, -1))
    ]
    images.check("test", (len(it.metrics) for it in found))
    of_fakes, of_reals = [it.of_fakes for it in found], [it.of_reals for it in found]
    shares, away = jury.shares(of_fakes, of_reals), jury.distances(of_fakes, of_reals)
    directions = {
        spec.name: {
            "images": len(it.metrics), **mean_metrics(it.metrics), **shares[i], **away[i]
        }
        for i, (spec, it) in enumerate(zip(specs, found))
    }  # fmt: skip
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
        **jury.facts(list(directions), of_reals),
        "seconds": round(time.monotonic() - began, 1),
    }
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
        cells, specs = zip(*(load_generator(Path(run) / name) for name in GENERATOR_FILES.values()))
    for (direction, name), spec in zip(GENERATOR_FILES.items(), specs):
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


@dataclass
class _Found:
    """What is kept of a direction's test images: numbers of all of them, pictures of few."""

    metrics: list[dict[str, float]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    of_reals: Opinion = field(default_factory=Opinion)
    of_fakes: Opinion = field(default_factory=Opinion)


def _translate(spec, there, back, domain, sign, images: RealImages, jury: Jury) -> _Found:
    """Translate every test image of a direction that can be read, and have it judged.

    `sign` is 1 where the target domain is B, and -1 where it is A.
    """
    log.info("%s: %d images", spec.name, len(domain))
    found, all_cases = _Found(), _cases(there, back, images.squares(domain))
    while cases := list(islice(all_cases, CHUNK)):
        jury.ask(found.of_reals, (case.real for case in cases))
        jury.ask(found.of_fakes, (case.fake for case in cases))
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
