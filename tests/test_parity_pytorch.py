"""The paper variant against an independent PyTorch implementation, in Graph and PyNative mode."""

import numpy as np
import pytest
import torch
from helpers import draw_folder
from pytorch_reference import Discriminator, Generator, Reference, copy_weights
from pytorch_training import train_reference

import mindspore as ms

from cyclegan_ms.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from cyclegan_ms.model.image_pool import ImagePool
from cyclegan_ms.model.networks import PatchGANDiscriminator, ResNetGenerator
from cyclegan_ms.training import train
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.schedule import learning_rates


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def forward_and_gradient(cell, x, weights):
    """Output, and gradient of sum(output * weights) by the input, of a MindSpore cell."""

    def loss(x, w):
        y = cell(x)
        return (y * w).sum(), y

    (_, y), gradient = ms.value_and_grad(loss, 0, has_aux=True)(ms.Tensor(x), ms.Tensor(weights))
    return y.asnumpy(), gradient.asnumpy()


def away_from_kinks(module, draw):
    """Images that bring no ReLU's input nearer to 0 than 3e-6.

    There, rounding decides which side of the kink counts, and one such entry changes the gradient
    by up to a percent: PyTorch's own float32 then differs from its float64 as much.
    """
    nearest = []

    def note(layer, inputs):
        nearest.append(inputs[0].abs().min().item())

    relus = [m for m in module.modules() if isinstance(m, (torch.nn.ReLU, torch.nn.LeakyReLU))]
    hooks = [relu.register_forward_pre_hook(note) for relu in relus]
    for _ in range(50):
        nearest.clear()
        x = draw()
        with torch.no_grad():
            module(torch.from_numpy(x))
        if min(nearest) > 3e-6:
            break
    for hook in hooks:
        hook.remove()
    assert min(nearest) > 3e-6
    return x


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_forward_and_input_gradient(mode, kind, batch, images, rng):
    if kind == "generator":
        ours, theirs = ResNetGenerator(width=8, blocks=9), Generator(w=8, blocks=9)
    else:
        ours, theirs = PatchGANDiscriminator(width=16), Discriminator(w=16)
    copy_weights(ours, theirs)
    x = away_from_kinks(theirs, lambda: images(batch, 3, 32))
    reference_x = torch.from_numpy(x).requires_grad_()
    reference_y = theirs(reference_x)
    weights = rng.normal(size=tuple(reference_y.shape)).astype(np.float32)
    (reference_y * torch.from_numpy(weights)).sum().backward()

    y, gradient = forward_and_gradient(ours, x, weights)

    assert y.shape == tuple(reference_y.shape)
    assert relative(y, reference_y.detach().numpy()) < 1e-4
    assert relative(gradient, reference_x.grad.numpy()) < 1e-4


def is_cancelled(module, key):
    """Whether a parameter is the bias of a convolution that a normalisation follows."""
    layer, _, kind = key.rpartition(".")
    parent, _, index = layer.rpartition(".")
    following = list(module.get_submodule(parent).children())[int(index) + 1 :][:1]
    return kind == "bias" and bool(following) and isinstance(following[0], torch.nn.InstanceNorm2d)


def test_learning_rate_at_every_epoch():
    """PyTorch's LambdaLR with the reference's rule, 100 epochs constant and 100 of decay."""
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 2e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda e: 1 - max(0, e + 1 - 100) / 101)
    expected = []
    for _ in range(200):
        expected.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule.step()
    assert learning_rates(2e-4, 200, 100) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "mode,kind,identity,batch",
    [("graph", "lsgan", 0.5, 1), ("graph", "vanilla", 0.0, 3), ("pynative", "lsgan", 0.5, 1)],
    indirect=["mode"],
)
def test_five_training_steps(mode, kind, identity, batch, images):
    """Losses of five steps within 1e-3 relative; after them 98 % of each layer's parameters within
    1e-4, half an Adam step.

    The others have gradients of the size of rounding noise, whose sign Adam turns into whole steps;
    wider initial weights (0.2) keep them few. Biases that a normalisation cancels have no other
    gradient than that, and are excepted.
    """
    config = Config(
        data=DataConfig(load_size=32, crop_size=32, batch_size=batch),
        model=ModelConfig(width=8, blocks=2, init_gain=0.2),
        loss=LossConfig(gan=kind, lambda_identity=identity),
    )
    networks = build_networks(config.model)
    theirs = {
        name: copy_weights(net, Generator(w=8, blocks=2) if name[0] == "g" else Discriminator(w=8))
        for name, net in networks.cells().items()
    }
    model = CycleGAN(networks, config, [2e-4] * 5)
    reference = Reference(theirs, kind, lambdas=(10.0, 10.0, identity))
    model.pool_a, model.pool_b = ImagePool(2, 1), ImagePool(2, 2)
    pools = ImagePool(2, 1), ImagePool(2, 2)
    for _ in range(5):
        real_a, real_b = images(batch), images(batch)
        ours, expected = model.step(real_a, real_b), reference.step(real_a, real_b, *pools)
        assert ours.keys() == expected.keys()
        for name in ours:
            assert ours[name] == pytest.approx(expected[name], rel=1e-3), name
    compared = []
    for name, network in networks.cells().items():
        state = theirs[name].state_dict()
        for key, parameter in network.parameters_and_names():
            if not is_cancelled(theirs[name], key):
                compared.append(key)
                gap = np.abs(parameter.asnumpy() - state[key].numpy())
                assert np.quantile(gap, 0.98) < 1e-4, (name, key)
    # Weights of 10 generator and 5 discriminator layers, and the biases of 1 and 2 of them.
    assert len(compared) == 2 * (10 + 1) + 2 * (5 + 2)


def test_a_whole_training(tmp_path):
    """Two epochs of `train`, the second at half the rate, with pools that soon are full."""
    config = Config(
        data=DataConfig(str(draw_folder(tmp_path / "data")), load_size=36, crop_size=32),
        model=ModelConfig(width=8, blocks=2, init_gain=0.2),
        train=TrainConfig(epochs=2, decay_epochs=1, pool_size=2, log_every=1, sample_every=0),
    )
    lines = []
    train(config, tmp_path / "run", on_line=lines.append)
    theirs = list(train_reference(config))
    assert len(lines) == len(theirs) == 6
    for line, expected in zip(lines, theirs):
        for name in expected:
            assert line[name] == pytest.approx(expected[name], rel=1e-3), (line["step"], name)
