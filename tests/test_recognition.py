"""EfficientNet-Lite0 against PyTorch, and what is recognised by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from efficientnet_reference import efficientnet
from helpers import tiny, write_network
from PIL import Image

import mindspore as ms

from cyclegan_ms.data.images import from_chw
from cyclegan_ms.data.splits import load_split, load_tests
from cyclegan_ms.data.squares import sample_images
from cyclegan_ms.evaluate.distances import kernel_distance
from cyclegan_ms.evaluate.efficientnet import EfficientNet
from cyclegan_ms.evaluate.features import FeatureNetwork
from cyclegan_ms.evaluate.recognition import class_name, share_of, telling_classes
from cyclegan_ms.files import find_shipped
from cyclegan_ms.training.cyclegan import build_networks
from cyclegan_ms.training.evaluation import EpochEvaluation
from cyclegan_ms.training.progress import read_metrics


@pytest.fixture(scope="module")
def eye():
    return EfficientNet()


@pytest.fixture(scope="module")
def fruit():
    """Drawn fruit, of four sizes."""
    files = sorted((find_shipped("sample") / "trainB").iterdir())
    pictures = [Image.open(path).convert("RGB") for path in files[:10]]
    return [it.resize((40 + 60 * i, 50 + 50 * i)) if i < 4 else it for i, it in enumerate(pictures)]


def reference(pictures):
    """Features and class scores by PyTorch."""
    small = [
        np.asarray(it.resize((224, 224), Image.Resampling.BICUBIC), np.float32) for it in pictures
    ]
    _, features, scores = efficientnet(torch.from_numpy(np.stack(small).transpose(0, 3, 1, 2)))
    return features.numpy(), scores.numpy()


def test_features_and_guesses_are_pytorchs(eye, fruit):
    features, scores = reference(fruit)
    found = eye(iter(fruit))
    assert found.shape == (10, 1280) and np.abs(features).max() > 1
    assert np.abs(found - features).max() < 1e-3
    assert np.array_equal(eye.guesses(found), scores.argmax(1))
    assert np.allclose(eye(fruit[:1]), found[:1], atol=1e-5)  # alone as among others
    assert eye([]).shape == (0, 1280)


def test_which_classes_tell_a_domain():
    """Of 40 pictures: 7 says as much of both, 8 is rare, 9 five times as common, 6 not quite."""
    target = np.array([7] * 15 + [9] * 10 + [8] * 1 + [5] * 6 + [6] * 8)
    source = np.array([7] * 15 + [9] * 2 + [6] * 2 + [4] * 21)
    assert telling_classes(target, source) == {9: (0.25, 0.05), 5: (0.15, 0.0)}
    assert list(telling_classes(target, np.where(source == 6, 4, source))) == [9, 6, 5]
    assert telling_classes(target, target) == {}
    # Numbers of the list in ImageNet's 2012 development kit, from 0 on, by synset.
    assert [class_name(number) for number in (0, 948, 950, 999)] == [
        "tench", "Granny Smith", "orange", "toilet tissue"
    ]  # fmt: skip
    assert share_of(np.array([9, 5, 7, 1]), telling_classes(target, source)) == 0.5


def test_an_epoch_is_looked_at_with_the_same_eye(eye, data_root, tmp_path):
    for split in ("testA", "testB"):
        for index in range(1, 5):
            picture = Image.open(data_root / split / "0.png").rotate(90 * index)
            picture.save(data_root / split / f"{index}.png")
    config = replace(tiny(data_root, evaluate_every=1))
    networks = build_networks(config.model)
    trains, tests = load_split(config, "train"), load_tests(config)
    EpochEvaluation(config, tmp_path, trains, tests).end_epoch(networks, 1, 3)
    (row,) = read_metrics(tmp_path / "evaluation.jsonl")
    guesses = [
        eye.guesses(eye(map(from_chw, sample_images(domain, config.data, 10)))) for domain in trains
    ]
    reals = [sample_images(domain, config.data, 10) for domain in tests]
    for place, (letter, there) in enumerate((("a", networks.g_ab), ("b", networks.g_ba))):
        fakes = np.concatenate([there(ms.Tensor(x[None])).asnumpy() for x in reals[place]])
        seen = eye(map(from_chw, fakes))
        distance = kernel_distance(seen, eye(map(from_chw, reals[1 - place])), halves=2)[0]
        assert row[f"kid_{letter}"] == pytest.approx(distance, rel=1e-4)
        classes = telling_classes(guesses[1 - place], guesses[place])
        if classes:
            assert row[f"recognised_{letter}"] == share_of(eye.guesses(seen), classes)
        assert (f"recognised_{letter}" in row) == bool(classes)


def test_another_network_takes_its_place_for_distances_alone(tmp_path):
    network = FeatureNetwork(write_network(tmp_path / "f.onnx"))
    assert (network.name, network.dimensions) == (str(tmp_path / "f.onnx"), 3)
    assert (network.height, network.width) == (8, 12)
    assert (EfficientNet.name, EfficientNet.dimensions) == ("EfficientNet-Lite0", 1280)
