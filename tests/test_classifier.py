"""The classifier that judges translations."""

import numpy as np
import pytest

import mindspore as ms

from cyclegan_ms.evaluate.classifier import train_classifier


def noise(rng, count, red=0.0):
    images = rng.uniform(-0.5, 0.5, (count, 3, 64, 64)).astype(np.float32)
    images[:, 0] += red
    return images


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    return train_classifier(noise(rng, 40, 0.4), noise(rng, 20), steps=40)


def test_separable_domains(trained, rng):
    assert (trained.trained_on, trained.held_out) == ([32, 16], [8, 4])
    assert trained.held_out_accuracy == 1
    a, b = noise(rng, 10, 0.4), noise(rng, 5)
    assert trained.accuracy(a, b) == 1
    assert trained.accuracy(b, a) == 0
    assert trained.accuracy(np.concatenate([a, b]), b) == pytest.approx((10 / 15 + 1) / 2)


def test_logits_of_an_image_do_not_depend_on_the_others(trained, rng):
    images = noise(rng, 35, 0.2)
    logits = trained.logits(images)
    assert logits.shape == (35,)
    alone = [trained.logits(images[i : i + 1])[0] for i in (0, 31, 34)]
    assert alone == pytest.approx(logits[[0, 31, 34]], abs=1e-5)


def test_domains_that_do_not_differ(rng):
    judge = train_classifier(noise(rng, 200), noise(rng, 200), steps=40)
    assert judge.accuracy(noise(rng, 200), noise(rng, 200)) == pytest.approx(0.5, abs=0.1)


def test_only_its_own_seed_matters():
    rng = np.random.default_rng(0)
    a, b, probe = noise(rng, 10, 0.4), noise(rng, 10), noise(rng, 4)
    logits = []
    for global_seed, seed in ((1, 0), (2, 0), (1, 5)):
        ms.set_seed(global_seed)
        np.random.seed(global_seed)
        logits.append(train_classifier(a, b, steps=3, seed=seed).logits(probe))
    assert np.array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])
