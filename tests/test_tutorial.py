"""The tutorial variant against numbers that the published notebook's own code printed.

`reference/tutorial_golden.npz`: generators of width 4 with the block applied 3 times,
discriminators of width 4, two pairs of 32x32 images; weights before, forward outputs, losses of two
training steps, weights after them.
"""

from pathlib import Path

import numpy as np
import pytest

import mindspore as ms

from cyclegan_ms.config import Config, DataConfig, ModelConfig, TrainConfig
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.tutorial import TutorialDiscriminator, TutorialGenerator
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks

GOLDEN = np.load(Path(__file__).parent / "reference" / "tutorial_golden.npz")
NAMES = {"g_ab": "net_rg_a", "g_ba": "net_rg_b", "d_a": "net_d_a", "d_b": "net_d_b"}
CONFIG = Config(
    data=DataConfig(load_size=32, crop_size=32),
    model=ModelConfig(variant="tutorial", width=4, blocks=3),
    train=TrainConfig(epochs=1, decay_epochs=0, pool_size=0),
)


def golden_networks():
    networks = build_networks(CONFIG.model)
    used = set()
    for ours, theirs in NAMES.items():
        for key, parameter in getattr(networks, ours).parameters_and_names():
            if parameter.requires_grad:
                name = f"init/{theirs}.{key}"
                used.add(name)
                assert parameter.shape == GOLDEN[name].shape
                parameter.set_data(ms.Tensor(GOLDEN[name]))
    assert used == {name for name in GOLDEN.files if name.startswith("init/")}
    return networks


def test_parameter_counts():
    def count(cell):
        return sum(p.size for p in cell.trainable_params())

    assert count(TutorialGenerator()) == 1_936_896
    assert count(TutorialGenerator(shared=False)) == 1_936_896 + 8 * 2 * (256 * 256 * 9 + 256)
    # The paper's 2,764,737 without the biases of the first (64) and last (1) convolution.
    assert count(TutorialDiscriminator()) == 2_764_737 - 65


def test_forward(mode):
    n = golden_networks()
    a, b = (ms.Tensor(GOLDEN[f"real_{side}"][0]) for side in "ab")
    fake_a, fake_b = n.g_ba(b), n.g_ab(a)
    outputs = {
        "fake_a": fake_a,
        "fake_b": fake_b,
        "rec_a": n.g_ba(fake_b),
        "rec_b": n.g_ab(fake_a),
        "identity_a": n.g_ba(a),
        "identity_b": n.g_ab(b),
        "d_a_real": n.d_a(a),
        "d_b_real": n.d_b(b),
    }
    for name, output in outputs.items():
        expected = GOLDEN[f"forward/{name}"]
        gap = np.abs(output.asnumpy() - expected).max()
        assert gap <= 1e-5 * np.abs(expected).max(), name


def test_two_training_steps(mode):
    """Losses within 1e-5 relative; parameters within 1e-5, and no entry excepted: in these small
    networks none has a gradient so near to zero that Adam would turn its rounding into a step."""
    model = CycleGAN(golden_networks(), CONFIG, [2e-4] * 2)
    for index in (0, 1):
        losses = model.step(GOLDEN["real_a"][index], GOLDEN["real_b"][index])
        golden = {
            name.split("/")[1]: float(GOLDEN[name])
            for name in GOLDEN.files
            if name.startswith(f"step{index + 1}/")
        }
        ours = {
            "loss_g": sum(v for name, v in losses.items() if name not in ("d_a", "d_b")),
            "loss_g_a": losses["g_ab"],
            "loss_g_b": losses["g_ba"],
            "loss_c_a": losses["cycle_a"],
            "loss_c_b": losses["cycle_b"],
            "loss_idt_a": losses["idt_a"],
            "loss_idt_b": losses["idt_b"],
            "loss_d": 0.5 * (losses["d_a"] + losses["d_b"]),
        }
        assert ours == pytest.approx(golden, rel=1e-5)
    beyond = 0
    for ours, theirs in NAMES.items():
        for key, parameter in getattr(model.networks, ours).parameters_and_names():
            if parameter.requires_grad:
                gap = np.abs(parameter.asnumpy() - GOLDEN[f"after2/{theirs}.{key}"])
                beyond += int((gap > 1e-5).sum())
    assert beyond == 0  # of 40496


def test_set_train_does_not_wake_the_normalisation(images):
    generator = TutorialGenerator(width=4, blocks=1)
    x = ms.Tensor(images())
    still = generator.set_train(False)(x).asnumpy()
    assert np.array_equal(generator.set_train(True)(x).asnumpy(), still)


@pytest.mark.parametrize(
    "training,key",
    [({"pool_size": 50, "decay_epochs": 0}, "pool_size 0"), ({"pool_size": 0}, "decay_epochs 0")],
)
def test_variants_are_not_mixed(training, key):
    with pytest.raises(UserError, match=f"variant tutorial needs train.{key}"):
        Config(model=ModelConfig(variant="tutorial"), train=TrainConfig(**training))
