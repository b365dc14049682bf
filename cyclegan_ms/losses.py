"""Adversarial, cycle-consistency and identity losses, and the cells that training minimises.

All return their loss first, which the training steps minimise; everything after it is for reading
only and wrapped in `stop_gradient`, for a plain `nn.TrainOneStepCell` would differentiate the sum.
"""

import mindspore as ms
from mindspore import nn, ops

__all__ = ["AdversarialLoss", "DirectionLoss", "DiscriminatorLoss", "GeneratorLoss"]


class AdversarialLoss(nn.Cell):
    """How far a discriminator's logits are from calling every patch real, or fake.

    `lsgan`: mean((D - 1)^2) for real, mean(D^2) for fake (Mao et al. 2017; CycleGAN paper,
    section 4). `vanilla`: -mean(log s(D)) for real, -mean(log(1 - s(D))) for fake, s the sigmoid
    (CycleGAN paper, equation 1). A generator asks to be called real, in both: for `vanilla` that
    is the non-saturating form of Goodfellow et al. 2014, section 3.

    Args:
        kind: `lsgan` or `vanilla`.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, kind: str = "lsgan"):
        super().__init__()
        if kind not in ("lsgan", "vanilla"):
            raise ValueError(f"kind must be 'lsgan' or 'vanilla', not {kind!r}")
        self.least_squares = kind == "lsgan"

    def construct(self, logits: ms.Tensor, real: bool) -> ms.Tensor:
        """Logits (N, 1, h, w) to a scalar; `real` is what the patches should be called."""
        if self.least_squares:
            distance = logits - 1.0 if real else logits
            return (distance * distance).mean()
        # -log s(z) = max(-z, 0) + log(1 + exp(-|z|)), which cannot overflow.
        z = logits if real else -logits
        return (ops.relu(-z) + ops.log1p(ops.exp(-ops.abs(z)))).mean()


def _l1(x, y):
    return ops.abs(x - y).mean()


def _both(network, x, y):
    """What a network makes of two batches: one call is quicker and needs less memory than two."""
    outputs = network(ops.concat((x, y)))
    return outputs[: x.shape[0]], outputs[x.shape[0] :]


class DirectionLoss(nn.Cell):
    """What both generators minimise for the images of one domain (paper, section 3).

    adversarial(fake) + lambda_cycle |rec - real| + lambda_identity lambda_cycle |idt - real|, with
    fake = there(real), rec = back(fake), idt = back(real), L1 norms as means.

    Args:
        there: the generator that translates these images.
        back: the generator into their domain.
        judge: discriminator of the other domain; its parameters get no update here.
        adversarial: the adversarial loss.
        lambda_cycle: weight of the cycle (10 in the paper, section 4).
        lambda_identity: weight of the identity term relative to the cycle's (0.5 in section 7.1).
            At 0 its forward pass does not exist.

    Input real (N, C, H, W) in [-1, 1]. Outputs the scalar loss, its terms with their weights
    (adversarial, cycle, and identity if there is one) as a vector, and fake.
    """

    def __init__(
        self,
        there: nn.Cell,
        back: nn.Cell,
        judge: nn.Cell,
        adversarial: nn.Cell,
        lambda_cycle: float = 10.0,
        lambda_identity: float = 0.5,
    ):
        super().__init__(auto_prefix=False)
        self.there, self.back, self.judge = there, back, judge
        self.adversarial = adversarial
        self.lambda_cycle, self.lambda_identity = lambda_cycle, lambda_identity
        self.use_identity = lambda_identity > 0

    def construct(self, real: ms.Tensor):
        fake = self.there(real)
        if self.use_identity:
            rec, idt = _both(self.back, fake, real)
        else:
            rec = self.back(fake)
        terms = (self.adversarial(self.judge(fake), True), self.lambda_cycle * _l1(rec, real))
        if self.use_identity:
            terms += (self.lambda_identity * self.lambda_cycle * _l1(idt, real),)
        terms = ops.stack(terms)
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

    Inputs real_a (N, C_a, H, W), real_b (N, C_b, H, W) in [-1, 1]. Outputs the scalar loss, its
    terms with their weights as one vector in the order of `terms`, and fake_a, fake_b.
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
    ):
        super().__init__(auto_prefix=False)
        self.of_a = DirectionLoss(g_ab, g_ba, d_b, adversarial, lambda_a, lambda_identity)
        self.of_b = DirectionLoss(g_ba, g_ab, d_a, adversarial, lambda_b, lambda_identity)
        self.terms = ["g_ab", "g_ba", "cycle_a", "cycle_b"]
        if lambda_identity > 0:
            self.terms += ["idt_a", "idt_b"]

    def construct(self, real_a: ms.Tensor, real_b: ms.Tensor):
        return self.join(self.of_a(real_a), self.of_b(real_b))

    def join(self, outputs_of_a, outputs_of_b):
        """The outputs of both directions to those of both together."""
        loss_a, terms_a, fake_b = outputs_of_a
        loss_b, terms_b, fake_a = outputs_of_b
        terms = ops.stack((terms_a, terms_b), 1).reshape(-1)
        return loss_a + loss_b, terms, fake_a, fake_b


class DiscriminatorLoss(nn.Cell):
    """What both discriminators minimise: to tell real images from fakes that they are handed.

    Each term is `weight` times the sum of its real and fake part. One half slows the discriminators
    down relative to the generators (CycleGAN paper, section 7.1).

    Args:
        d_a: discriminator of A.
        d_b: discriminator of B.
        adversarial: the adversarial loss.
        weight: of both terms.

    Inputs real_a, fake_a (N, C_a, H, W), real_b, fake_b (N, C_b, H, W) in [-1, 1]; the fakes come
    from the image pools. Outputs the scalar loss and its two terms as one vector.
    """

    terms = ("d_a", "d_b")

    def __init__(self, d_a: nn.Cell, d_b: nn.Cell, adversarial: nn.Cell, weight: float = 0.5):
        super().__init__(auto_prefix=False)
        self.d_a, self.d_b = d_a, d_b
        self.adversarial = adversarial
        self.weight = weight

    def construct(self, real_a: ms.Tensor, real_b: ms.Tensor, fake_a: ms.Tensor, fake_b: ms.Tensor):
        called_real_a, called_fake_a = _both(self.d_a, real_a, fake_a)
        called_real_b, called_fake_b = _both(self.d_b, real_b, fake_b)
        judged_a = self.adversarial(called_real_a, True) + self.adversarial(called_fake_a, False)
        judged_b = self.adversarial(called_real_b, True) + self.adversarial(called_fake_b, False)
        terms = self.weight * ops.stack((judged_a, judged_b))
        return terms.sum(), ops.stop_gradient(terms)
