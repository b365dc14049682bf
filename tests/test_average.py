"""Averaged weights: their values step by step, where they go, and that a resume keeps them."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import draw_folder, tiny

import mindspore as ms

from cyclegan_ms.config import Config, LossConfig, TrainConfig
from cyclegan_ms.errors import UserError
from cyclegan_ms.training import train
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks, ema_decay
from cyclegan_ms.training.state import load_state
from cyclegan_ms.weights.checkpoint import load_generator


def values(cell):
    return {key: p.asnumpy().astype(np.float64) for key, p in cell.parameters_and_names()}


@pytest.mark.quick
def test_warm_up():
    """(1 + n) / (10 + n), up to the decay: it takes 8989 steps to 0.999."""
    assert [ema_decay(0.999, n) for n in (0, 1, 90)] == [1 / 10, 2 / 11, 91 / 100]
    assert ema_decay(0.999, 8989) == pytest.approx(0.999) == ema_decay(0.999, 10**6)
    assert ema_decay(0.05, 0) == 0.05


def test_values(mode, images):
    """After each step a <- d a + (1 - d) w, from the weights at the start on."""
    ms.set_seed(1)
    config = replace(tiny(), train=replace(tiny().train, ema=0.15, learning_rate=0.01))
    model = CycleGAN(build_networks(config.model, 32 * 32), config, [0.01])
    expected = {name: values(getattr(model.networks, name)) for name in ("g_ab", "g_ba")}
    for step in range(3):
        model.step(images(), images())
        decay = (0.1, 0.15, 0.15)[step]
        for name, averages in expected.items():
            weights = values(getattr(model.networks, name))
            for key in averages:
                averages[key] = decay * averages[key] + (1 - decay) * weights[key]
            ours = values(getattr(model.shown, name))
            assert all(np.allclose(ours[key], averages[key], atol=1e-7) for key in averages)
    assert model.shown.d_a is model.networks.d_a
    assert not np.array_equal(
        values(model.shown.g_ab)["model.1.weight"], values(model.networks.g_ab)["model.1.weight"]
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Two epochs of 3 steps with averages, augmentation and feature discriminators."""
    root = draw_folder(tmp_path_factory.mktemp("data"))
    config = tiny(root, ema=0.5, log_every=1, keep=5, sample_every=0)
    config = replace(config, loss=LossConfig(diff_augment=True, lambda_features=0.5))
    run = tmp_path_factory.mktemp("runs") / "straight"
    train(config, run)
    return config, run


def test_resumed_averages_are_the_straight_ones(straight, tmp_path):
    """Bit for bit, in the middle of an epoch, with draws and feature discriminators too."""
    config, run = straight
    early = replace(config, train=replace(config.train, max_steps=2))
    train(early, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    ours, theirs = (load_state(it / "checkpoints").arrays for it in (tmp_path / "run", run))
    assert ours.keys() == theirs.keys()
    assert {"average_g_ab/model.1.weight", "average_g_ba/model.1.weight"} <= set(ours)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_files_and_pictures_are_of_the_averages(straight):
    _, run = straight
    arrays = load_state(run / "checkpoints").arrays
    for name in ("g_ab", "g_ba"):
        generator, spec = load_generator(run / f"{name}.ckpt")
        assert spec.ema == 0.5
        for key, parameter in generator.parameters_and_names():
            assert np.array_equal(parameter.asnumpy(), arrays[f"average_{name}/{key}"])
            assert not np.array_equal(parameter.asnumpy(), arrays[f"{name}/{key}"]) or not (
                parameter.asnumpy().any()  # biases that are not used stay 0
            )


def test_it_cannot_be_switched_on_in_a_resume(straight, tmp_path):
    config, run = straight
    other = replace(config, train=replace(config.train, ema=0.9))
    with pytest.raises(UserError, match=r"train\.ema \(0\.5 -> 0\.9\)"):
        train(other, run, resume=True)


@pytest.mark.quick
def test_one_is_no_decay():
    with pytest.raises(UserError, match=r"train\.ema 1 would never average"):
        Config(train=TrainConfig(ema=1.0))
