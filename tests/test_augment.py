"""What discriminators see of few pictures: values by hand, gradients, the same draw for a pair."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import tiny, weights

import mindspore as ms
from mindspore import nn

from cyclegan_ms.model.augment import COLUMNS, augmented, draw
from cyclegan_ms.model.losses import DiscriminatorLoss, LeastSquares
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks

NOTHING = {"brightness": 0, "saturation": 1, "contrast": 1, "down": 0, "right": 0}
# The blank square has no place to be but somewhere: beside the picture it covers nothing.
FAR = {"row": 9, "column": 9}


def drawn(*changes):
    return ms.Tensor(
        [[{**NOTHING, **FAR, **c}[key] for key in COLUMNS] for c in changes], ms.float32
    )


def see(x, **change):
    x = np.asarray(x, np.float32)
    return augmented(ms.Tensor(x), drawn(*[change] * len(x))).asnumpy()


@pytest.mark.quick
def test_colours_by_hand():
    """One pixel pair of red, green, blue."""
    x = np.array([[[[0.3, 0.0]], [[0.0, 0.0]], [[-0.6, 0.6]]]])
    np.testing.assert_allclose(see(x), x, atol=1e-7)
    np.testing.assert_allclose(see(x, brightness=0.25), x + 0.25, atol=1e-6)
    gray = x.mean(1, keepdims=True)  # -0.1 and 0.2
    np.testing.assert_allclose(see(x, saturation=0), np.repeat(gray, 3, 1), atol=1e-6)
    np.testing.assert_allclose(see(x, saturation=2), 2 * x - gray, atol=1e-6)
    mean = x.mean()  # 0.05
    np.testing.assert_allclose(see(x, contrast=0.5), 0.5 * x + 0.5 * mean, atol=1e-6)


@pytest.mark.quick
def test_shift_and_square_by_hand(rng):
    x = rng.normal(size=(1, 3, 16, 8)).astype(np.float32)
    moved = see(x, down=0.125, right=-0.125)  # by 2 down, by 1 to the left
    np.testing.assert_allclose(moved[:, :, 2:, :-1], x[:, :, :-2, 1:], atol=1e-6)
    assert not moved[:, :, :2].any() and not moved[:, :, :, -1].any()
    blank = see(x, row=0.5, column=0.0)  # 8 rows in the middle; 2 of 4 columns, at the left edge
    kept = np.ones((16, 8), bool)
    kept[4:12, :2] = False
    np.testing.assert_allclose(blank, x * kept, atol=1e-6)


@pytest.mark.quick
def test_gradients_are_those_of_pytorch(mode, rng):
    """Through all of it, for two images that are changed differently, in both modes."""
    x = rng.normal(size=(2, 3, 12, 12)).astype(np.float32)
    changes = draw(np.random.default_rng(1), 2)
    out = rng.normal(size=x.shape).astype(np.float32)

    def loss(x, draws, out):
        return (augmented(x, draws) ** 2 * out).sum()

    ours = ms.grad(loss)(ms.Tensor(x), ms.Tensor(changes), ms.Tensor(out)).asnumpy()

    exact = torch.tensor(x, requires_grad=True)
    total = 0
    for image, change, weight in zip(exact, changes, torch.tensor(out)):
        values = dict(zip(COLUMNS, change.tolist()))
        y = image + values["brightness"]
        gray = y.mean(0, keepdim=True)
        y = (y - gray) * values["saturation"] + gray
        y = (y - y.mean()) * values["contrast"] + y.mean()
        down, right = (round(values[key] * 12) for key in ("down", "right"))
        y = torch.nn.functional.pad(y, (2, 2, 2, 2))[
            :, 2 - down : 14 - down, 2 - right : 14 - right
        ]
        mask = torch.ones(12, 12)
        for i in range(12):
            for j in range(12):
                near = (abs(i + 0.5 - values["row"] * 12), abs(j + 0.5 - values["column"] * 12))
                mask[i, j] = not (near[0] < 3 and near[1] < 3)
        total = total + ((y * mask) ** 2 * weight).sum()
    total.backward()
    np.testing.assert_allclose(ours, exact.grad.numpy(), atol=2e-5)


@pytest.mark.quick
def test_ranges_of_the_draws():
    values = draw(np.random.default_rng(0), 4000)
    expected = {
        "brightness": (-0.5, 0.5), "saturation": (0, 2), "contrast": (0.5, 1.5),
        "down": (-0.125, 0.125), "right": (-0.125, 0.125), "row": (0, 1), "column": (0, 1),
    }  # fmt: skip
    for index, (name, (low, high)) in enumerate(expected.items()):
        column = values[:, index]
        assert COLUMNS[index] == name and column.min() >= low and column.max() <= high
        assert abs(column.mean() - (low + high) / 2) < 0.02 * (high - low)


@pytest.mark.quick
def test_real_and_fake_are_changed_alike(rng):
    """A discriminator that gives the image back: equal images stay equal, and cost 1 / 2 in all.

    ((x - 1)^2 + x^2) / 2 of the changed image, whatever the change is.
    """
    loss = DiscriminatorLoss(nn.Identity(), nn.Identity(), LeastSquares())
    a, b = (ms.Tensor(rng.normal(size=(2, 3, 8, 8)).astype(np.float32)) for _ in range(2))
    draws = [ms.Tensor(draw(np.random.default_rng(i), 2)) for i in (1, 2)]
    _, terms = loss(a, b, a, b, *draws)
    expected = []
    for x, changes in zip((a, b), draws):
        y = augmented(x, changes).asnumpy()
        expected.append((np.mean((y - 1) ** 2) + np.mean(y**2)) / 2)
    np.testing.assert_allclose(terms.asnumpy(), expected, rtol=1e-5)


def trained(images, steps, **loss):
    ms.set_seed(3)
    config = tiny()
    config = replace(config, loss=replace(config.loss, **loss))
    model = CycleGAN(build_networks(config.model, 32 * 32), config, [2e-4])
    losses = [model.step(*images) for _ in range(steps)]
    return weights(model), losses


def test_a_training_step_with_it(mode, images):
    """Other than without, and what is not judged has the loss it had."""
    batch = images(), images()
    plain, losses = trained(batch, 1)
    changed, others = trained(batch, 1, diff_augment=True)
    for name in ("cycle_a", "cycle_b", "idt_a", "idt_b"):
        assert others[0][name] == pytest.approx(losses[0][name], rel=1e-5)
    assert abs(others[0]["d_a"] - losses[0]["d_a"]) > 1e-4
    assert any(not np.array_equal(plain[name], changed[name]) for name in plain)
