"""Mixed precision: float16 with a loss scale."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from helpers import generator, tiny

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import DeviceConfig, LossConfig, ModelConfig
from cyclegan_ms.device import setup_device
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.convolutions import Conv2d, Conv2dTranspose
from cyclegan_ms.model.layers import InstanceNorm, Tanh
from cyclegan_ms.model.operators import plain_operators
from cyclegan_ms.training import train
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.state import load_state
from cyclegan_ms.training.steps import ScaledStep, in_precision

O2 = DeviceConfig(amp="O2")


class Product(nn.Cell):
    """weight * x, whose gradient is x."""

    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(1.0, ms.float32), name="weight")

    def construct(self, x):
        return self.weight * x, x


@pytest.fixture
def step(mode):
    network = Product()
    return ScaledStep(network, nn.SGD(network.trainable_params(), learning_rate=1.0)).set_train()


def test_an_overflow_skips_the_update_and_halves_the_scale(step):
    assert step.scaler.scale_value.item() == 65536
    _, fine = step(ms.Tensor(1e34, ms.float32))  # 65536e34 is more than float32's 3.4e38
    assert fine.asnumpy() and step.network.weight.item() == 1.0
    assert step.scaler.scale_value.item() == 32768
    (loss, x), fine = step(ms.Tensor(0.25, ms.float32))
    assert fine.asnumpy() and step.network.weight.item() == 0.75
    assert loss.item() == 0.25 * 32768 and x.item() == 0.25
    assert step.scaler.scale_value.item() == 32768


def test_no_scale_mends_a_gradient_that_is_not_finite(step):
    for _ in range(16):
        assert step(ms.Tensor(np.inf, ms.float32))[1].asnumpy()
    assert step.scaler.scale_value.item() == 1
    assert not step(ms.Tensor(np.inf, ms.float32))[1].asnumpy()
    assert step.network.weight.item() == 1.0


@pytest.mark.parametrize("amp", ["O2", "bf16"])
@pytest.mark.parametrize("operators", [nullcontext, plain_operators])
def test_normalisation_stays_in_float32(mode, rng, operators, amp):
    """Of values that lower precision has exactly, and whose squares are beyond float16."""
    x = 16.0 * rng.integers(0, 256, (2, 4, 16, 16))
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    with operators():
        network = in_precision(nn.SequentialCell(InstanceNorm(4)), amp)
    y = network(ms.Tensor(x, ms.float32))
    assert variance.min() > 65504
    assert np.abs(y.asnumpy() - expected).max() < 2e-6


@pytest.mark.parametrize("amp", ["O2", "bf16"])
def test_what_stays_in_float32(amp):
    low = "fp16" if amp == "O2" else "bf16"
    network = in_precision(generator("paper-3to3"), amp)
    kept = {"fp32": set(), low: set()}
    for _, cell in network.cells_and_names():
        for flag, kinds in kept.items():
            if cell.get_flags().get(flag):
                kinds.add(type(cell))
        assert getattr(cell, "method", None) is None  # which are for float32
    assert kept["fp32"] - {type(InstanceNorm(1).normalise)} == {InstanceNorm, Tanh}
    assert {Conv2d, Conv2dTranspose} <= kept[low]


@pytest.mark.parametrize("saturation", [0.0, 10.0])
def test_losses_are_those_of_float32_but_for_rounding(saturation):
    """Weights that reach beyond the range, where that is penalised."""
    losses = []
    usual = replace(
        tiny(), loss=LossConfig(lambda_saturation=saturation),
        model=ModelConfig(width=4, blocks=1, init_gain=0.5),
    )  # fmt: skip
    for config in (usual, replace(usual, device=O2)):
        setup_device("CPU", seed=0)
        model = CycleGAN(build_networks(config.model, 32 * 32), config, [2e-4] * 2)
        real = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3, 32, 32)).astype(np.float32)
        losses.append(np.array(list(model.step(*real).values())))
    terms = [term.key for term in model.terms]
    assert all(losses[0][terms.index(key)] > 1 for key in ("sat_a", "sat_b") if saturation)
    assert not np.array_equal(*losses)
    np.testing.assert_allclose(*losses, rtol=1e-2)


def test_resume_restores_the_scales(data_root, tmp_path):
    def config(max_steps):
        return replace(tiny(data_root, max_steps=max_steps, sample_every=0), device=O2)

    train(config(9), tmp_path / "straight")
    train(config(4), tmp_path / "resumed")
    train(config(9), tmp_path / "resumed", resume=True)
    one, two = (load_state(tmp_path / run / "checkpoints") for run in ("straight", "resumed"))
    assert one.facts["loss_scales"] == two.facts["loss_scales"]
    assert [counter for _, counter in one.facts["loss_scales"]] != [0, 0]
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)


def test_bfloat16_is_refused_before_anything_is_written(data_root, tmp_path):
    config = replace(tiny(data_root), device=DeviceConfig(target="CPU", amp="bf16"))
    with pytest.raises(UserError, match=r"device\.amp bf16 is not available on CPU"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
