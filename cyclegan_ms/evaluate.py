"""Metrics of a finished run, on its test images."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import mindspore as ms

from cyclegan_ms import classifier, distances
from cyclegan_ms.checkpoint import load_generator
from cyclegan_ms.config import Config, UserError
from cyclegan_ms.data import from_chw, load_domains, load_square, resized_chw
from cyclegan_ms.features import FeatureNetwork
from cyclegan_ms.files import shown
from cyclegan_ms.metrics import (
    INVERTED,
    image_metrics,
    load_tests,
    mean_metrics,
    require_skimage,
)

__all__ = ["Case", "evaluate", "mean_of_directions", "measure"]

log = logging.getLogger(__name__)


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


def measure(there, back, real: np.ndarray):
    """The translation of an image, its reconstruction, and their `image_metrics`.

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
    return fake, rec, image_metrics(real, fake, rec, idt)


def evaluate(
    run, config: Config, features=None, steps: int = classifier.STEPS
) -> tuple[dict, dict[str, list[Case]]]:
    """All metrics of a run's generators on all test images, resized to the square data.crop_size.

    Everything is per direction, for the test images of its source domain: the cycle goes there and
    back, and the identity is that of the other generator, whose target they are (g_ba(real_a)).
    What judges whole images sees them as 8-bit pictures, in gray where one domain is. Images that
    cannot be read, in training or test folders, are left out and listed as `left_out`.

    `taken_for_target` is the share of translated images that a classifier, trained on the real
    training images, takes for the target domain; `target_...` and `source_taken_for_target` are the
    shares of the real test images of both domains so taken. `fid` and `kid` are the distances of
    the translated images from the real test images of the target domain. Beside them, for scale,
    stand those of other images from the same test images: `fid_untranslated`, `kid_untranslated` of
    the originals, and `fid_real`, `kid_real` of as many real training images of the target domain,
    spread over the set (all, where it has fewer).

    Args:
        run: folder with g_ab.ckpt and g_ba.ckpt.
        config: of the run; the sections data and model are used.
        features: ONNX file of a network for the distances, see `FeatureNetwork`; None leaves them
            out.
        steps: of the classifier's training.

    Returns what goes into report.json, and the test images of each direction.

    Raises:
        UserError: generators, images or packages are missing.
    """
    began = time.monotonic()
    require_skimage()
    network = FeatureNetwork(features) if features else None
    cells, specs = _load_generators(run, config)
    tests = load_tests(config)
    trains = load_domains(config.data, "train", (config.model.channels_a, config.model.channels_b))
    least = {"test": 4 if network else 1, "training": 4 if network else 2}
    _check_counts(config, "test", map(len, tests), least)
    _check_counts(config, "training", map(len, trains), least)

    size = config.data.crop_size
    # Where one domain is gray, colour would tell all: everybody sees brightness then.
    gray = config.model.channels_a != config.model.channels_b
    cases = []
    for spec, there, back, domain in zip(specs, cells, cells[::-1], tests):
        log.info("%s: %d images", spec.name, len(domain))
        cases.append(_translate(there, back, domain, size))
    _check_counts(config, "test", map(len, cases), least)
    training = [_small(_seen(_pictures(domain, size), gray)) for domain in trains]
    _check_counts(config, "training", map(len, training), least)
    log.info("training the classifier on %d and %d images", *map(len, training))
    judge = classifier.train_classifier(*training, steps=steps)
    reals = [list(_seen((case.real for case in found), gray)) for found in cases]
    real_features = [network(pictures) for pictures in reals] if network else []

    directions = {}
    for index, (spec, found) in enumerate(zip(specs, cases)):
        translated = list(_seen((case.fake for case in found), gray))
        directions[spec.name] = {
            "images": len(found),
            **mean_metrics([case.metrics for case in found]),
            **_judge_direction(judge, index, found, translated, reals),
        }
        if network:
            log.info("%s: features", spec.name)
            others = {
                "": network(translated),
                "_untranslated": real_features[index],
                "_real": network(_seen(_pictures(trains[1 - index], size, len(found)), gray)),
            }
            directions[spec.name] |= _distances(real_features[1 - index], others)

    report = {
        "checkpoint": shown(run),
        "epoch": specs[0].epoch,
        "data_root": shown(config.data.root),
        "image_size": size,
        "directions": directions,
        "mean": mean_of_directions(directions.values()),
        "left_out": sorted(
            shown(path.relative_to(config.data.root))
            for domain in (*tests, *trains)
            for path in domain.broken
        ),
        "inverted_below": INVERTED,
        "max_images": config.data.max_images,
        "judged_in_gray": gray,
        "classifier": {
            "image_size": classifier.SIZE,
            "steps": steps,
            "trained_on": judge.trained_on,
            "held_out": judge.held_out,
            "held_out_accuracy": judge.held_out_accuracy,
            "test_accuracy": judge.accuracy(*map(_small, reals)),
        },
    }
    if network:
        compared = [min(len(them), len(found)) for them, found in zip(training[::-1], cases)]
        report["features"] = {
            "file": shown(features),
            "input": [3, network.height, network.width],
            "dimensions": network.dimensions,
            "kid_halves": distances.HALVES,
            "kid_seed": distances.SEED,
            "real_training_images": compared,
        }
    report["seconds"] = round(time.monotonic() - began, 1)
    return report, dict(zip(directions, cases))


def _load_generators(run, config):
    """g_ab and g_ba of a run, as cells, and their specs.

    Raises UserError unless the files are both directions of one run, and of this one.
    """
    cells, specs = zip(*(load_generator(Path(run) / f"{name}.ckpt") for name in ("g_ab", "g_ba")))
    model = config.model
    shapes = ((model.channels_a, model.channels_b), (model.channels_b, model.channels_a))
    for name, direction, shape, spec in zip(("g_ab", "g_ba"), ("a2b", "b2a"), shapes, specs):
        if spec.direction != direction or (spec.in_channels, spec.out_channels) != shape:
            raise UserError(
                f"{run}/{name}.ckpt: a generator {spec.direction} of {spec.in_channels} to "
                f"{spec.out_channels} channels; this run's config.yaml asks for {direction} of "
                f"{shape[0]} to {shape[1]}"
            )
    if specs[0].name == specs[1].name:
        raise UserError(f"{run}: both directions are called {specs[0].name}")
    return cells, specs


def _check_counts(config, kind, counts, least):
    """Raises UserError where a domain has too few images of a kind, test or training."""
    if min(counts) < least[kind]:
        raise UserError(
            f"data.root {config.data.root}: an evaluation needs at least {least[kind]} {kind} "
            f"images of each domain that can be read"
        )


def _pictures(domain, size, count=None):
    """The images of a domain that can be read, or so many spread over it, as squares."""
    indices = [i for i, path in enumerate(domain.paths) if path not in domain.broken]
    count = min(count or len(indices), len(indices))
    for place in np.linspace(0, len(indices) - 1, count).astype(int):
        image = load_square(domain, indices[place], size)
        if domain.paths[indices[place]] not in domain.broken:  # else another is given in its place
            yield from_chw(image)


def _seen(pictures, gray):
    """Pictures as they are shown to the classifier and to the network of features."""
    return (picture.convert("L") if gray else picture for picture in pictures)


def _small(pictures):
    """Pictures as the classifier takes them, (N, 3, 64, 64)."""
    side = classifier.SIZE
    return np.stack([resized_chw(picture, side, side) for picture in pictures])


def _translate(there, back, domain, size):
    """A `Case` for every image of a domain that can be read."""
    cases = []
    for index, path in enumerate(domain.paths):
        real = load_square(domain, index, size)
        if path in domain.broken:  # another image was given in its place
            continue
        fake, rec, metrics = measure(there, back, real)
        cases.append(Case(path.name, *map(from_chw, (real, fake, rec)), metrics))
    return cases


def _judge_direction(judge, index, cases, translated, reals):
    """The shares that a classifier takes for the target domain; notes its odds in the cases.

    Args:
        judge: the classifier.
        index: 0 for the direction from A to B, 1 for the other.
        cases: of that direction.
        translated: pictures that they show.
        reals: the real test images, as pictures, of A and of B.
    """
    sign = -1 if index else 1  # the classifier's log-odds are those of domain B
    asked = {"": translated, "target_": reals[1 - index], "source_": reals[index]}
    logits = {name: sign * judge.logits(_small(pictures)) for name, pictures in asked.items()}
    for case, logit in zip(cases, logits[""].tolist()):
        case.metrics["target_logit"] = logit
    return {f"{name}taken_for_target": float(np.mean(it > 0)) for name, it in logits.items()}


def _distances(tests, others):
    """FID and KID of some sets of features from those of the test images."""
    found = {}
    for suffix, features in others.items():
        kid, error = distances.kernel_distance(features, tests)
        found[f"fid{suffix}"] = distances.frechet_distance(features, tests)
        found |= {f"kid{suffix}": kid, f"kid{suffix}_standard_error": error}
    return found


def mean_of_directions(directions: Iterable[dict]) -> dict[str, float]:
    """The means over both directions, of the metrics that have one."""
    first, second = directions
    names = [name for name in first if name != "images" and not name.endswith("_standard_error")]
    return {name: (first[name] + second[name]) / 2 for name in names}
