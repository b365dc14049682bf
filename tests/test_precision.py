"""Mixed precision: float16 with a loss scale."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import DeviceConfig
from cyclegan_ms.device import setup_device
from cyclegan_ms.errors import UserError
from cyclegan_ms.training import train
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.state import load_state
from cyclegan_ms.training.steps import ScaledStep

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


def test_losses_are_those_of_float32_but_for_rounding(images):
    losses = []
    for config in (tiny(), replace(tiny(), device=O2)):
        setup_device("CPU", seed=0)
        model = CycleGAN(build_networks(config.model), config, [2e-4] * 2)
        real = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3, 32, 32)).astype(np.float32)
        losses.append(np.array(list(model.step(*real).values())))
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
