"""Adversarial, cycle-consistency and identity losses, and the cells that training minimises.

Every cell returns its loss first, which the training steps minimise; everything after it is for
reading only and wrapped in `stop_gradient`, for a plain `nn.TrainOneStepCell` would differentiate
the sum. `terms` of a cell names what it is made of: curves, page and terminal show what is there.
"""

import math
from dataclasses import dataclass

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.model.augment import augmented

__all__ = [
    "ADVERSARIAL",
    "CrossEntropy",
    "DirectionLoss",
    "DiscriminatorLoss",
    "GeneratorLoss",
    "LeastSquares",
    "PANELS",
    "Term",
]


@dataclass(frozen=True)
class Term:
    """A part of a loss, as it is logged and shown."""

    key: str
    """its name in metrics.jsonl"""
    short: str
    """name on the progress bar, which shows the mean of both directions"""
    panel: str
    """title of the panel of curves that it belongs to"""
    label: str
    """what it is, in words"""


PANELS = {
    "adversarial": "The generators' part falls as translations pass for real ones, the "
    "discriminators' as they tell them apart. Good is a draw that goes on: with least squares "
    "about 0.3 to 0.4 for generators and 0.2 for discriminators (0.25 is guessing). One near 0 "
    "has won, and its generator learns little.",
    "cycle": "How far a picture is from itself, there and back; it should keep falling. Very low "
    "from the start on, it tells of a generator that changes nothing.",
    "identity": "How much a generator changes a picture that is of its target domain already; it "
    "should keep falling.",
    "features": "The same game as adversarial, played on what an ImageNet network sees in the "
    "pictures.",
    "saturation": "How far values are beyond what pictures need: outputs pressed against black and "
    "white, where nothing can be learnt any more, and the spikes that lead there. It should stay "
    "near 0.",
}
"""What the curves of a panel mean, and what is good, by its title."""


class LeastSquares(nn.Cell):
    """mean((D - 1)^2) for images to be called real, mean(D^2) for fakes.

    Mao et al. 2017, as in the CycleGAN paper, section 4. Logits are (N, 1, h, w).
    """

    won = 2 * 0.02
    """`for_discriminator` of one that is off by 0.14 on every image, with nothing left to teach."""

    def for_generator(self, fake: ms.Tensor) -> ms.Tensor:
        """Return how far the logits of fakes are from real."""
        distance = fake - 1.0
        return (distance * distance).mean()

    def for_discriminator(self, real: ms.Tensor, fake: ms.Tensor) -> ms.Tensor:
        """Return how far logits are from telling real images and fakes apart."""
        return self.for_generator(real) + (fake * fake).mean()


class CrossEntropy(nn.Cell):
    """-mean(log s(D)) for images to be called real, -mean(log(1 - s(D))) for fakes, s the sigmoid.

    CycleGAN paper, equation 1; the generator's is the non-saturating form of Goodfellow et al.
    2014, section 3. Logits are (N, 1, h, w).
    """

    won = -2 * math.log(1 - math.sqrt(0.02))
    """`for_discriminator` of one that gives every image a probability that is off by 0.14."""

    def for_generator(self, fake: ms.Tensor) -> ms.Tensor:
        """Return how far the logits of fakes are from real."""
        return self._surprise(fake)

    def for_discriminator(self, real: ms.Tensor, fake: ms.Tensor) -> ms.Tensor:
        """Return how far logits are from telling real images and fakes apart."""
        return self._surprise(real) + self._surprise(-fake)

    def _surprise(self, z):
        # -log s(z) = max(-z, 0) + log(1 + exp(-|z|)), which cannot overflow.
        return (ops.relu(-z) + ops.log1p(ops.exp(-ops.abs(z)))).mean()


ADVERSARIAL = {"lsgan": LeastSquares, "vanilla": CrossEntropy}
"""Adversarial losses by name: each a pair, `for_generator` and `for_discriminator`."""


def _l1(x, y):
    return ops.abs(x - y).mean()


def _made(generator, x, bounded):
    """Return what a generator makes, and what it tells beside that if it is `Bounded`, or 0."""
    return generator(x) if bounded else (generator(x), 0.0)


def _mean(values):
    total = 0.0
    for value in values:
        total = total + value
    return total / len(values)


def _both(network, x, y):
    """Apply a network to two batches: one call is quicker and needs less memory than two."""
    outputs = network(ops.concat((x, y)))
    return outputs[: x.shape[0]], outputs[x.shape[0] :]


def _seen(x, draws):
    """Return images as a discriminator sees them."""
    return x if draws is None else augmented(x, draws)


class DirectionLoss(nn.Cell):
    """What both generators minimise for the images of one domain (paper, section 3).

    adversarial(fake) + lambda_cycle |rec - real| + lambda_identity lambda_cycle |idt - real|, with
    fake = there(real), rec = back(fake), idt = back(real), L1 norms as means; and with a
    `FeatureDiscriminator` lambda_features times the adversarial loss of its maps, as their mean.
    With lambda_saturation, that times what `Bounded` generators tell of both calls.

    Args:
        there: the generator that translates these images.
        back: the generator into their domain.
        judge: discriminator of the other domain; its parameters get no update here.
        adversarial: the adversarial loss.
        lambda_cycle: weight of the cycle (10 in the paper, section 4).
        lambda_identity: weight of the identity term relative to the cycle's (0.5 in section 7.1).
            At 0 its forward pass does not exist.
        source: `a` or `b`, the domain of these images; names the terms.
        features: the other domain's `FeatureDiscriminator`, if there is one.
        lambda_features: weight of what that says.
        augment: whether `judge` sees fake `augmented` too, as `features` always does.
        lambda_saturation: above 0 both generators are `Bounded`, and this is the weight of that.

    Inputs real (N, C, H, W) in [-1, 1] and, to judge fake `augmented` as drawn, draws (N, 7).
    Outputs the scalar loss, its terms with their weights as a vector in the order of `terms`, and
    fake.
    """

    def __init__(
        self,
        there: nn.Cell,
        back: nn.Cell,
        judge: nn.Cell,
        adversarial: nn.Cell,
        lambda_cycle: float = 10.0,
        lambda_identity: float = 0.5,
        source: str = "a",
        features: nn.Cell | None = None,
        lambda_features: float = 1.0,
        augment: bool = True,
        lambda_saturation: float = 0.0,
    ):
        super().__init__(auto_prefix=False)
        self.there, self.back, self.judge = there, back, judge
        self.lambda_saturation, self.use_saturation = lambda_saturation, lambda_saturation > 0
        self.adversarial = adversarial
        self.lambda_cycle, self.lambda_identity = lambda_cycle, lambda_identity
        self.use_identity = lambda_identity > 0
        self.features, self.lambda_features, self.augment = features, lambda_features, augment
        target = "b" if source == "a" else "a"
        way = f"{source.upper()} to {target.upper()}"
        self.terms = [
            Term(f"g_{source}{target}", "g", "adversarial", f"adversarial, generator {way}"),
            Term(f"cycle_{source}", "cycle", "cycle", f"cycle {way} to {source.upper()}"),
        ]
        if features is not None:
            label = f"on features, generator {way}"
            self.terms.append(Term(f"feat_{source}{target}", "feat", "features", label))
        if self.use_identity:
            label = f"identity, generator into {source.upper()}"
            self.terms.append(Term(f"idt_{source}", "idt", "identity", label))
        if self.use_saturation:
            label = f"beyond bounds, {way} and back"
            self.terms.append(Term(f"sat_{source}", "sat", "saturation", label))

    def construct(self, real: ms.Tensor, draws: ms.Tensor | None = None):
        n = real.shape[0]
        fake, beyond = _made(self.there, real, self.use_saturation)
        # One call for what comes back and for the identity: quicker, and needs less memory.
        given = ops.concat((fake, real)) if self.use_identity else fake
        made, more = _made(self.back, given, self.use_saturation)
        rec = made[:n] if self.use_identity else made
        seen = _seen(fake, draws if self.augment else None)
        adversarial = self.adversarial.for_generator(self.judge(seen))
        values = (adversarial, self.lambda_cycle * _l1(rec, real))
        if self.features is not None:
            maps = self.features(_seen(fake, draws))
            judged = [self.adversarial.for_generator(logits) for logits in maps]
            of_features = self.lambda_features * _mean(judged)
            values = (*values, of_features)  # type: ignore[assignment]
        if self.use_identity:
            identity = self.lambda_identity * self.lambda_cycle * _l1(made[n:], real)
            values = (*values, identity)  # type: ignore[assignment]
        if self.use_saturation:
            saturation = self.lambda_saturation * (beyond + more)
            values = (*values, saturation)  # type: ignore[assignment]
        terms = ops.stack(values)
        return terms.sum(), ops.stop_gradient(terms), ops.stop_gradient(fake)


class GeneratorLoss(nn.Cell):
    """What both generators minimise: the sum over both directions, which share only weights.

    Args:
        g_ab: generator from A to B.
        g_ba: generator from B to A.
        d_a: discriminator of A.
        d_b: discriminator of B.
        adversarial: the adversarial loss.
        lambda_a: weight of the cycle A to B to A.
        lambda_b: weight of the cycle B to A to B.
        lambda_identity: weight of the identity terms relative to the cycle's.
        features_a: `FeatureDiscriminator` of A, or None.
        features_b: `FeatureDiscriminator` of B, or None.
        lambda_features: weight of what those say.
        augment: whether d_a and d_b see images `augmented` too, as feature discriminators do.
        lambda_saturation: see `DirectionLoss`.

    Inputs real_a (N, C_a, H, W), real_b (N, C_b, H, W) in [-1, 1] and perhaps draws for what
    discriminators of A and of B see. Outputs the scalar loss, its terms with their weights as one
    vector in the order of `terms`, and fake_a, fake_b.
    """

    def __init__(
        self,
        g_ab: nn.Cell,
        g_ba: nn.Cell,
        d_a: nn.Cell,
        d_b: nn.Cell,
        adversarial: nn.Cell,
        lambda_a: float = 10.0,
        lambda_b: float = 10.0,
        lambda_identity: float = 0.5,
        features_a: nn.Cell | None = None,
        features_b: nn.Cell | None = None,
        lambda_features: float = 1.0,
        augment: bool = True,
        lambda_saturation: float = 0.0,
    ):
        super().__init__(auto_prefix=False)
        more = (lambda_features, augment, lambda_saturation)
        self.of_a = DirectionLoss(
            g_ab, g_ba, d_b, adversarial, lambda_a, lambda_identity, "a", features_b, *more
        )
        self.of_b = DirectionLoss(
            g_ba, g_ab, d_a, adversarial, lambda_b, lambda_identity, "b", features_a, *more
        )
        pairs = zip(self.of_a.terms, self.of_b.terms)
        self.terms = [term for pair in pairs for term in pair]

    def construct(self, real_a: ms.Tensor, real_b: ms.Tensor, draws_a=None, draws_b=None):
        return self.join(self.of_a(real_a, draws_b), self.of_b(real_b, draws_a))

    def join(self, outputs_of_a, outputs_of_b):
        """Combine the outputs of both directions."""
        loss_a, terms_a, fake_b = outputs_of_a
        loss_b, terms_b, fake_a = outputs_of_b
        terms = ops.stack((terms_a, terms_b), 1).reshape(-1)
        return loss_a + loss_b, terms, fake_a, fake_b


class DiscriminatorLoss(nn.Cell):
    """What both discriminators minimise: to tell real images from the fakes that they are handed.

    Each term is `weight` times the sum of its real and fake part. One half slows the discriminators
    down relative to the generators (CycleGAN paper, section 7.1).

    Args:
        d_a: discriminator of A.
        d_b: discriminator of B.
        adversarial: the adversarial loss.
        weight: weight of both terms.
        features_a: `FeatureDiscriminator` of A, or None.
        features_b: `FeatureDiscriminator` of B, or None.
        lambda_features: weight of their terms relative to the others.
        augment: whether d_a and d_b see images `augmented` too, as feature discriminators do.

    Inputs real_a, fake_a (N, C_a, H, W), real_b, fake_b (N, C_b, H, W) in [-1, 1], the fakes from
    the image pools, and perhaps draws (N, 7) for each domain, by which both its real images and its
    fakes are `augmented`. Outputs the scalar loss and its terms as one vector in the order of
    `terms`.
    """

    def __init__(
        self,
        d_a: nn.Cell,
        d_b: nn.Cell,
        adversarial: nn.Cell,
        weight: float = 0.5,
        features_a: nn.Cell | None = None,
        features_b: nn.Cell | None = None,
        lambda_features: float = 1.0,
        augment: bool = True,
    ):
        super().__init__(auto_prefix=False)
        self.d_a, self.d_b = d_a, d_b
        self.adversarial = adversarial
        self.weight = weight
        self.features_a, self.features_b = features_a, features_b
        self.lambda_features, self.augment = lambda_features, augment
        # Below this, a discriminator's term says that it has won.
        self.won = weight * adversarial.won
        self.terms = [
            Term(f"d_{domain}", "d", "adversarial", f"discriminator of {domain.upper()}")
            for domain in "ab"
        ]
        if features_a is not None:
            self.terms += [
                Term(f"d_feat_{it}", "d_feat", "features", f"feature discriminator of {it.upper()}")
                for it in "ab"
            ]

    def construct(
        self, real_a: ms.Tensor, real_b: ms.Tensor, fake_a: ms.Tensor, fake_b: ms.Tensor,
        draws_a: ms.Tensor | None = None, draws_b: ms.Tensor | None = None,
    ):  # fmt: skip
        values = (
            self._judged(self.d_a, real_a, fake_a, draws_a),
            self._judged(self.d_b, real_b, fake_b, draws_b),
        )
        if self.features_a is not None:
            of_a = self._of_features(self.features_a, real_a, fake_a, draws_a)
            of_b = self._of_features(self.features_b, real_b, fake_b, draws_b)
            more = (self.lambda_features * of_a, self.lambda_features * of_b)
            values = (*values, *more)  # type: ignore[assignment]
        terms = self.weight * ops.stack(values)
        return terms.sum(), ops.stop_gradient(terms)

    def _judged(self, discriminator, real, fake, draws):
        if self.augment:
            real, fake = _seen(real, draws), _seen(fake, draws)
        return self.adversarial.for_discriminator(*_both(discriminator, real, fake))

    def _of_features(self, discriminator, real, fake, draws):
        n = real.shape[0]
        maps = discriminator(ops.concat((_seen(real, draws), _seen(fake, draws))))
        return _mean([self.adversarial.for_discriminator(it[:n], it[n:]) for it in maps])
