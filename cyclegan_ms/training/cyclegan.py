"""A CycleGAN in training: four networks, and one step of generators first, then discriminators."""

import math
from dataclasses import dataclass, replace

import numpy as np

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.config import Config, ModelConfig
from cyclegan_ms.data.domains import Ranges
from cyclegan_ms.device import Device, watch_workers
from cyclegan_ms.errors import TrainingStopped
from cyclegan_ms.model.augment import draw
from cyclegan_ms.model.efficientnet import EfficientNetLite0, Maps
from cyclegan_ms.model.feature_discriminator import FeatureDiscriminator, PowerIteration
from cyclegan_ms.model.image_pool import ImagePool
from cyclegan_ms.model.kernels import kind_of
from cyclegan_ms.model.losses import ADVERSARIAL, DiscriminatorLoss, GeneratorLoss
from cyclegan_ms.model.networks import Bounded
from cyclegan_ms.model.operators import for_pictures
from cyclegan_ms.model.spec import GeneratorSpec, build_discriminator
from cyclegan_ms.training.steps import (
    Averaging,
    CheckedStep,
    GeneratorStep,
    ScaledStep,
    adam,
    in_precision,
)
from cyclegan_ms.weights.imagenet import imagenet_state

__all__ = ["CycleGAN", "Networks", "build_networks", "ema_decay", "generator_spec"]


_USUAL = ("g_ab", "g_ba", "d_a", "d_b")


@dataclass
class Networks:
    """The four networks of a CycleGAN, and its feature discriminators, if there are any."""

    g_ab: nn.Cell
    g_ba: nn.Cell
    d_a: nn.Cell
    d_b: nn.Cell
    features_a: nn.Cell | None = None
    features_b: nn.Cell | None = None

    def cells(self) -> dict[str, nn.Cell]:
        """Return those that there are, by name."""
        return {name: cell for name, cell in vars(self).items() if cell is not None}


def build_networks(model: ModelConfig, pixels: int = 0, features: bool = False) -> Networks:
    """Build all four networks with fresh weights, named `g_ab.model.1.weight` and so on.

    Args:
        model: their sizes.
        pixels: of the images of a batch, if known: few and many are computed otherwise.
        features: whether to add feature discriminators.

    Raises:
        UserError: the package with those discriminators' frozen network is not installed.
    """
    with for_pictures(kind_of(pixels, model.width, batches=2)):  # see `DirectionLoss`
        g_ab, g_ba = (
            GeneratorSpec.of(vars(model), direction, ("a", "b")).build(model.init_gain)
            for direction in ("a2b", "b2a")
        )
        d_a, d_b = (
            build_discriminator(model.variant, channels, model.width, model.init_gain)
            for channels in (model.channels_a, model.channels_b)
        )
    networks = Networks(g_ab, g_ba, d_a, d_b)
    if features:
        maps = Maps(EfficientNetLite0(imagenet_state()))
        judges = (FeatureDiscriminator(maps) for _ in range(2))
        networks.features_a, networks.features_b = judges
    for name, network in networks.cells().items():
        network.update_parameters_name(f"{name}.")
    return networks


def generator_spec(
    config: Config, direction: str, epoch: int, ranges: Ranges = (None, None)
) -> GeneratorSpec:
    """Describe a generator that is trained with a configuration, in its epoch `epoch`.

    `ranges` are those of A and of B, where they have pictures of more than 8 bits.
    """
    data = config.data
    ends = [(it.low, it.high) if it else None for it in ranges]
    in_range, out_range = ends if direction == "a2b" else ends[::-1]
    spec = GeneratorSpec.of(vars(config.model), direction, data.domains, data.test_size, epoch)
    return replace(
        spec, ema=config.train.ema, resized=data.preprocess != "crop", in_range=in_range,
        out_range=out_range,
    )  # fmt: skip


def _copies(networks, config):
    """Return generators of the same weights, for their averages, beside the same discriminators."""
    copies = build_networks(config.model, config.data.batch_pixels)
    for name in ("g_ab", "g_ba"):
        average = getattr(copies, name)
        average.update_parameters_name(f"average_{name}.")
        pairs = zip(average.get_parameters(), getattr(networks, name).get_parameters())
        for mine, theirs in pairs:
            mine.set_data(ms.Tensor(theirs.asnumpy()))  # a parameter would share its memory
    return replace(networks, g_ab=copies.g_ab, g_ba=copies.g_ba)


def ema_decay(decay: float, steps_done: int) -> float:
    """Return the decay of an average after so many steps: at first it forgets its start faster.

    min(decay, (1 + n) / (10 + n)), the usual warm-up of moving averages.
    """
    return min(decay, (1 + steps_done) / (10 + steps_done))


class CycleGAN:
    """Networks, losses, optimizers and pools of a training, one `step` at a time.

    Args:
        networks: the four networks.
        config: the sections loss, model and train are used, data.batch_pixels and device.amp.
        rates: the learning rate of every epoch; the last one goes on.
        device: where to compute; with several workers their gradients are averaged, and the pools
            are one for all, the same in every worker.
        per_epoch: number of steps of an epoch.

    `networks` are trained; `shown` are what pictures and files are of: the same, or with
    `train.ema` their averages.
    """

    def __init__(
        self,
        networks: Networks,
        config: Config,
        rates: list[float],
        device: Device | None = None,
        per_epoch: int = 1,
    ):
        self.networks = networks
        self.device = device or Device()
        train, amp = config.train, config.device.amp
        # Not the feature discriminators, whose features are float32.
        loss = config.loss
        usual = {name: getattr(networks, name) for name in _USUAL}
        if loss.lambda_saturation:
            usual |= {name: Bounded(usual[name]) for name in ("g_ab", "g_ba")}
        n = replace(networks, **{name: in_precision(cell, amp) for name, cell in usual.items()})
        adversarial = ADVERSARIAL[loss.gan]()
        weights = (loss.lambda_a, loss.lambda_b, loss.lambda_identity)
        judged: dict = {
            "features_a": n.features_a,
            "features_b": n.features_b,
            "lambda_features": loss.lambda_features,
            "augment": loss.diff_augment,
        }
        self.generator_loss = GeneratorLoss(
            n.g_ab, n.g_ba, n.d_a, n.d_b, adversarial, *weights, **judged,
            lambda_saturation=loss.lambda_saturation,
        )  # fmt: skip
        tutorial = config.model.variant == "tutorial"
        # The notebook halves the discriminator loss that it prints, not the one it minimises.
        weight = 1.0 if tutorial else 0.5
        self.discriminator_loss = DiscriminatorLoss(n.d_a, n.d_b, adversarial, weight, **judged)
        self.terms = [*self.generator_loss.terms, *self.discriminator_loss.terms]
        # MindSpore adds epsilon before the bias correction, which makes its 1e-8 31 times as large
        # in the first step as in the algorithm's usual form (Kingma and Ba 2015, section 2). This
        # one is right there, where all gradients are new; later it is up to 31 times smaller.
        epsilon = 1e-8 if tutorial else 1e-8 * math.sqrt(1 - 0.999)
        self.optimizer_g = adam((n.g_ab, n.g_ba), rates, train.beta1, epsilon, per_epoch)
        judges = [cell for name, cell in n.cells().items() if name not in ("g_ab", "g_ba")]
        self.optimizer_d = adam(judges, rates, train.beta1, epsilon, per_epoch)
        step_g, step_d = (GeneratorStep, CheckedStep) if amp != "O2" else (ScaledStep, ScaledStep)
        self.step_g = step_g(self.generator_loss, self.optimizer_g).set_train()
        self.step_d = step_d(self.discriminator_loss, self.optimizer_d).set_train()
        self.pool_a = ImagePool(train.pool_size, [train.seed, 2, 0])
        self.pool_b = ImagePool(train.pool_size, [train.seed, 2, 1])
        self.seed = train.seed
        has_features = n.features_a is not None
        self.augments = loss.diff_augment or has_features
        self.iterate = PowerIteration(*judges) if has_features else None
        self.ema, self.shown = train.ema, networks
        if self.ema:
            self.shown = _copies(networks, config)
            self.average = Averaging(*((it.g_ab, it.g_ba) for it in (self.shown, networks)))
        self.steps_done = 0

    def step(self, real_a: np.ndarray, real_b: np.ndarray) -> dict[str, float]:
        """Update both generators, then both discriminators on pooled fakes.

        real_a (N, C_a, H, W), real_b (N, C_b, H, W) float32 in [-1, 1]. Returns every loss term
        with its weight, by its key: the mean over all workers.

        Raises:
            TrainingStopped: a loss or a gradient is not finite.
            WorkerLost: another worker is gone.
        """
        real_a, real_b = ms.Tensor(real_a), ms.Tensor(real_b)
        draws = self._draws(len(real_a)) if self.augments else ()
        with watch_workers(self.device.workers):
            (_, terms_g, fake_a, fake_b), finite_g = self.step_g(real_a, real_b, *draws)
            pooled_a = self._pooled(self.pool_a, fake_a)
            pooled_b = self._pooled(self.pool_b, fake_b)
            (_, terms_d), finite_d = self.step_d(real_a, real_b, pooled_a, pooled_b, *draws)
            if self.iterate:
                self.iterate()
            if self.ema:
                self.average(ms.Tensor(1 - ema_decay(self.ema, self.steps_done), ms.float32))
            flags = ops.stack((finite_g, finite_d)).astype(ms.float32)
            # One copy to the host for all: the device has to finish its work for each.
            report = self.device.gather(ops.concat((terms_g, terms_d, flags)).expand_dims(0))
            *values, finite_g, finite_d = report.asnumpy().mean(axis=0).tolist()
        losses = {term.key: value for term, value in zip(self.terms, values)}
        self.steps_done += 1
        finite = np.isfinite(values).all()
        if not (finite and finite_g == finite_d == 1):
            what = "a gradient" if finite else "a loss"
            text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise TrainingStopped(
                f"step {self.steps_done}: {what} is not finite ({text}).\n"
                f"Try a lower train.learning_rate, loss.gan lsgan, or look for damaged images."
            )
        return losses

    def _draws(self, count):
        """Draw how discriminators see this worker's images of A and of B in the next step."""
        rng = np.random.default_rng([self.seed, 3, self.steps_done])
        start, everyones = self.device.rank * count, self.device.workers * count
        return [ms.Tensor(draw(rng, everyones)[start : start + count]) for _ in range(2)]

    def _pooled(self, pool, fakes):
        """Pass the fakes of all workers through a pool, and return this worker's part."""
        start = self.device.rank * len(fakes)
        everyones = pool.query(ops.unstack(self.device.gather(fakes)))
        return ops.stack(everyones[start : start + len(fakes)])
