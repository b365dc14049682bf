"""Losses computed by hand, and where their gradients may go."""

import math
from typing import get_args, get_type_hints

import numpy as np
import pytest

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import Config, DataConfig, LossConfig, ModelConfig
from cyclegan_ms.model.layers import Tanh
from cyclegan_ms.model.losses import (
    ADVERSARIAL,
    CrossEntropy,
    DiscriminatorLoss,
    GeneratorLoss,
    LeastSquares,
)
from cyclegan_ms.model.networks import UPSAMPLE, Bounded, ResNetGenerator
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.steps import GeneratorStep

pytestmark = pytest.mark.quick


def tensor(values):
    return ms.Tensor(np.array(values, np.float32))


def test_least_squares():
    loss = LeastSquares()
    logits, others = tensor([[[[0.0, 1.0], [2.0, -1.0]]]]), tensor([[[[3.0, 0.5]]]])
    assert loss.for_generator(logits).asnumpy() == pytest.approx((1 + 0 + 1 + 4) / 4)
    real, fake = (4 + 0.25) / 2, (0 + 1 + 4 + 1) / 4
    assert loss.for_discriminator(others, logits).asnumpy() == pytest.approx(real + fake)


def test_vanilla_is_the_formula_with_logarithms():
    loss = CrossEntropy()
    values = [0.0, 1.5, -2.0, 0.3]
    sigmoid = [1 / (1 + math.exp(-v)) for v in values]
    logits = tensor(values).reshape(1, 1, 2, 2)
    real = -sum(math.log(s) for s in sigmoid) / 4
    fake = -sum(math.log(1 - s) for s in sigmoid) / 4
    assert loss.for_generator(logits).asnumpy() == pytest.approx(real, rel=1e-6)
    both = loss.for_discriminator(logits, logits).asnumpy()
    assert both == pytest.approx(real + fake, rel=1e-6)


def test_vanilla_does_not_overflow():
    loss = CrossEntropy()
    logits = tensor([1000.0, -1000.0]).reshape(1, 1, 1, 2)
    assert loss.for_generator(logits).asnumpy() == 500
    gradient = ms.grad(loss.for_generator)(logits).asnumpy()
    assert gradient.ravel().tolist() == [0, -0.5]


def test_the_configuration_offers_what_there_is():
    kinds = get_args(get_type_hints(LossConfig)["gan"])
    assert set(kinds) == set(ADVERSARIAL)


class Affine(nn.Cell):
    """x to scale * x + shift: a generator or discriminator that can be followed by hand."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale = ms.Parameter(tensor(scale), name="scale")
        self.shift = ms.Parameter(tensor(shift), name="shift")
        self.images = 0

    def construct(self, x):
        self.images += len(x)
        return self.scale * x + self.shift


class Reaching(nn.Cell):
    """tanh(scale x + shift), a `ResNetGenerator`'s last two layers."""

    def __init__(self, scale, shift):
        super().__init__()
        self.model, self.tanh = nn.SequentialCell(Affine(scale, shift)), Tanh()


def test_outputs_beyond_the_range_are_pulled_back(mode):
    """g_ab(x) = tanh(4x + 2), g_ba(x) = tanh(-7x), d(x) = x, a = 1, b = 0.

    z: 6 of a, -7 y and -7 of what comes back and of the identity. A tanh of 6 has a slope of 2e-5;
    what is beyond 3 has its whole one.
    """
    g_ab, g_ba = Bounded(Reaching(4.0, 2.0)), Bounded(Reaching(-7.0, 0.0))
    judges = [Affine(1.0, 0.0), Affine(1.0, 0.0)]
    real_a, real_b = tensor([[[[1.0]]]]), tensor([[[[0.0]]]])
    output, beyond = g_ab(real_a)
    assert output.asnumpy().item() == pytest.approx(math.tanh(6), abs=1e-6)
    assert beyond.asnumpy() == pytest.approx(0.5 * 3**2)

    def penalty(x):
        return g_ab(x)[1]

    slope = ms.grad(penalty)
    assert slope(real_a).asnumpy() == pytest.approx(4 * 3)  # the scale, and how far it is beyond
    assert slope(real_b).asnumpy() == 0  # z = 2
    loss = GeneratorLoss(g_ab, g_ba, *judges, LeastSquares(), lambda_saturation=10.0)
    total, terms, _, fake_b = loss(real_a, real_b)
    terms = dict(zip([term.key for term in loss.terms], terms.asnumpy().tolist()))
    fake, back = math.tanh(6), (-7 * math.tanh(6), -7.0)
    expected = 10 * (0.5 * 3**2 + sum(0.5 * (-z - 3) ** 2 for z in back) / 2)
    assert terms["sat_a"] == pytest.approx(expected, rel=1e-5)
    assert terms["cycle_a"] == pytest.approx(10 * abs(math.tanh(back[0]) - 1), rel=1e-5)
    assert terms["idt_a"] == pytest.approx(5 * abs(math.tanh(back[1]) - 1), rel=1e-5)
    # b = 0 becomes 0, that becomes tanh(2), and its identity is tanh(2) too: all within 3.
    assert terms["sat_b"] == 0 and terms["cycle_b"] == pytest.approx(10 * math.tanh(2), rel=1e-5)
    assert total.asnumpy() == pytest.approx(sum(terms.values()), rel=1e-5)
    assert fake_b.asnumpy().item() == pytest.approx(fake, abs=1e-6)


@pytest.mark.parametrize("upsample", UPSAMPLE)
def test_spikes_behind_the_enlarging_layers_are_pulled_back(upsample, mode):
    """One bright pixel of 64 becomes k of 256: less the mean, over the deviation sqrt(256/k - 1).

    That is 15.97 for the one which a transposed convolution makes of it whose kernel is 0 but for
    its middle, 7.94 for four copies. Its square may be 4 there; the rest being x to x, 3 may be
    reached at the end.
    """
    generator = ResNetGenerator(1, 1, width=1, blocks=1, upsample=upsample)
    layers = list(generator.model)
    enlarge = next(i for i, layer in enumerate(layers) if isinstance(layer, UPSAMPLE[upsample]))
    kernel = np.zeros(layers[enlarge + 3].weight.shape, np.float32)
    kernel[:, :, 1, 1] = 1
    layers[enlarge + 3].weight.set_data(tensor(kernel))

    class Rest(nn.Cell):
        """The second enlarging layer, its normalisation, and what has no part in this."""

        def __init__(self):
            super().__init__()
            self.model = nn.SequentialCell(*layers[enlarge + 3 : enlarge + 5], Affine(1.0, 0.0))
            self.tanh = Tanh()

    spike = np.zeros((1, 2, 8, 8), np.float32)
    spike[0, 0, 3, 4] = 10  # the variance is far above the 1e-5 that is added to it
    k = 1 if upsample == "transposed" else 4
    height = math.sqrt(256 / k - 1)
    expected = 0.5 * (height**2 - 4 + (height - 3) ** 2) * k / 256
    assert Bounded(Rest())(tensor(spike))[1].asnumpy() == pytest.approx(expected, rel=1e-3)


def test_the_gradient_of_spikes(mode, rng):
    """As differences say, along itself: the penalty grows by its length."""
    bounded = Bounded(ResNetGenerator(width=4, blocks=1, init_gain=0.5))
    x = rng.normal(size=(2, 3, 16, 16)).astype(np.float32)
    x[:, :, 8, 8] = 40

    def penalty(x):
        return bounded(x)[1]

    slope = ms.grad(penalty)(tensor(x)).asnumpy()
    length = np.linalg.norm(slope)
    more, less = (float(penalty(tensor(x + h * slope / length))) for h in (1e-2, -1e-2))
    assert length > 0.1 and length == pytest.approx((more - less) / 2e-2, rel=1e-2)


def by_hand(identity):
    cells = [Affine(2.0, 0.5), Affine(0.5, -1.0), Affine(1.0, 0.0), Affine(3.0, 1.0)]
    loss = GeneratorLoss(*cells, LeastSquares(), 10.0, 4.0, identity)
    real_a, real_b = tensor([[[[1.0]]]]), tensor([[[[-2.0]]]])
    return cells, loss, loss(real_a, real_b)


def test_generator_loss_by_hand(mode):
    """a = 1, b = -2; g_ab(x) = 2x + 0.5, g_ba(x) = 0.5x - 1, d_a(x) = x, d_b(x) = 3x + 1."""
    _, loss, (total, terms, fake_a, fake_b) = by_hand(0.5)
    assert fake_b.asnumpy().item() == 2.5  # g_ab(1)
    assert fake_a.asnumpy().item() == -2.0  # g_ba(-2)
    expected = {
        "g_ab": (3 * 2.5 + 1 - 1) ** 2,
        "g_ba": (-2.0 - 1) ** 2,
        "cycle_a": 10 * abs(0.25 - 1),  # g_ba(2.5) = 0.25
        "cycle_b": 4 * abs(-3.5 + 2),  # g_ab(-2) = -3.5
        "idt_a": 0.5 * 10 * abs(-0.5 - 1),  # g_ba(1) = -0.5
        "idt_b": 0.5 * 4 * abs(-3.5 + 2),  # g_ab(-2) = -3.5
    }
    keys = [term.key for term in loss.terms]
    assert dict(zip(keys, terms.asnumpy().tolist())) == pytest.approx(expected)
    assert total.asnumpy() == pytest.approx(sum(expected.values()))


@pytest.mark.parametrize("identity,images", [(0.5, 3), (0.0, 2)])
def test_identity_weight_zero_costs_no_forward_pass(identity, images):
    ms.set_context(mode=ms.PYNATIVE_MODE)  # where each call runs Python
    try:
        cells, loss, _ = by_hand(identity)
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)
    assert [cell.images for cell in cells] == [images, images, 1, 1]
    assert len(loss.terms) == (6 if identity else 4)


def test_discriminator_loss_by_hand():
    loss = DiscriminatorLoss(Affine(1.0, 0.0), Affine(3.0, 1.0), LeastSquares())
    inputs = [tensor([[[[v]]]]) for v in (0.5, -1.0, 2.0, 1.0)]
    total, terms = loss(*inputs)  # d_a: real 0.5, fake 2; d_b: real -2, fake 4
    expected = [0.5 * (0.25 + 4), 0.5 * (9 + 16)]
    assert terms.asnumpy().tolist() == expected
    assert total.asnumpy() == sum(expected)


def test_auxiliary_outputs_do_not_leak_into_gradients(mode):
    """`nn.TrainOneStepCell` differentiates the sum of all outputs; it must equal the loss alone."""
    cells, loss, _ = by_hand(0.5)
    real_a, real_b = tensor([[[[1.0]]]]), tensor([[[[-2.0]]]])
    weights = [p for cell in cells[:2] for p in cell.trainable_params()]
    for i, p in enumerate(weights):
        p.name = f"p{i}"

    def loss_alone(a, b):
        return loss(a, b)[0]

    def all_outputs(a, b):
        total, terms, fake_a, fake_b = loss(a, b)
        return total + terms.sum() + fake_a.sum() + fake_b.sum()

    alone = ms.grad(loss_alone, None, weights)(real_a, real_b)
    together = ms.grad(all_outputs, None, weights)(real_a, real_b)
    assert [g.asnumpy().item() for g in together] == [g.asnumpy().item() for g in alone]
    # By hand, for g_ab's shift s at 0.5: d/ds of (3 (2 + s) + 1 - 1)^2 is 6 * 7.5 = 45; of
    # 10 |0.5 (2 + s) - 1 - 1| is -5; of 4 |2 (-2) + s + 2| is -4; of the identity term is -2.
    assert alone[1].asnumpy() == pytest.approx(45 - 5 - 4 - 2)


class InTurn(nn.Cell):
    """The outputs and gradients that a `GeneratorStep` updates with."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def construct(self, real_a, real_b):
        return self.step.in_turn(real_a, real_b)


def test_one_direction_at_a_time_is_both_together(mode, images):
    networks = build_networks(ModelConfig(width=4, blocks=1))
    cells = networks.cells().values()
    loss = GeneratorLoss(*cells, LeastSquares(), 10.0, 4.0, 0.5)
    weights = networks.g_ab.trainable_params() + networks.g_ba.trainable_params()
    step = GeneratorStep(loss, nn.SGD(weights))
    real_a, real_b = ms.Tensor(images()), ms.Tensor(images())
    outputs, gradients = InTurn(step)(real_a, real_b)
    expected, of_both = ms.value_and_grad(loss, None, weights, has_aux=True)(real_a, real_b)
    for output, other in zip(outputs, expected):
        assert output.asnumpy() == pytest.approx(other.asnumpy(), rel=1e-5, abs=1e-6)
    largest = max(np.abs(other.asnumpy()).max() for other in of_both)
    for gradient, other in zip(gradients, of_both):
        assert gradient.asnumpy() == pytest.approx(other.asnumpy(), abs=1e-5 * largest)


def test_each_step_updates_its_own_networks_only(images):
    config = Config(
        data=DataConfig(load_size=32, crop_size=32),
        model=ModelConfig(width=4, blocks=1),
        loss=LossConfig(),
    )
    model = CycleGAN(build_networks(config.model), config, [1e-3] * 4)

    def snapshot():
        return {
            name: np.concatenate([p.asnumpy().ravel() for p in cell.trainable_params()])
            for name, cell in model.networks.cells().items()
        }

    def changed(before, after):
        return {name for name in before if not np.array_equal(before[name], after[name])}

    real_a, real_b, fake_a, fake_b = (ms.Tensor(images()) for _ in range(4))
    start = snapshot()
    model.step_g(real_a, real_b)
    middle = snapshot()
    assert changed(start, middle) == {"g_ab", "g_ba"}
    model.step_d(real_a, real_b, fake_a, fake_b)
    assert changed(middle, snapshot()) == {"d_a", "d_b"}
