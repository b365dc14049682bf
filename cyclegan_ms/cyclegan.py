"""One step of training: the four networks around two `nn.TrainOneStepCell`s, G first, then D."""

import math
from dataclasses import dataclass

import numpy as np

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.checkpoint import TrainingState, capture_state, restore_state
from cyclegan_ms.config import Config, ModelConfig
from cyclegan_ms.device import Device, quiet_mindspore, watch_workers
from cyclegan_ms.image_pool import ImagePool
from cyclegan_ms.losses import AdversarialLoss, DiscriminatorLoss, GeneratorLoss
from cyclegan_ms.networks import PatchGANDiscriminator, ResNetGenerator
from cyclegan_ms.tutorial import TutorialDiscriminator, TutorialGenerator

__all__ = [
    "CheckedStep",
    "CycleGAN",
    "GeneratorStep",
    "Networks",
    "TrainingStopped",
    "build_networks",
    "learning_rates",
]


class TrainingStopped(Exception):
    """A training ended before its end; the message says why and how to go on.

    Args:
        message: one or two lines.
        status: what a program should exit with.
    """

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


@dataclass
class Networks:
    """The four networks of a CycleGAN."""

    g_ab: nn.Cell
    g_ba: nn.Cell
    d_a: nn.Cell
    d_b: nn.Cell


def build_networks(model: ModelConfig) -> Networks:
    """All four networks with fresh weights, parameters named `g_ab.model.1.weight` and so on."""
    a, b = model.channels_a, model.channels_b
    if model.variant == "tutorial":
        networks = Networks(
            g_ab=TutorialGenerator(a, b, model.width, model.blocks),
            g_ba=TutorialGenerator(b, a, model.width, model.blocks),
            d_a=TutorialDiscriminator(a, model.width),
            d_b=TutorialDiscriminator(b, model.width),
        )
    else:
        shape = (model.width, model.blocks, model.init_gain)
        networks = Networks(
            g_ab=ResNetGenerator(a, b, *shape),
            g_ba=ResNetGenerator(b, a, *shape),
            d_a=PatchGANDiscriminator(a, model.width, model.init_gain),
            d_b=PatchGANDiscriminator(b, model.width, model.init_gain),
        )
    for name, network in vars(networks).items():
        network.update_parameters_name(f"{name}.")
    return networks


def learning_rates(
    learning_rate: float, epochs: int, decay_epochs: int, steps_per_epoch: int
) -> list[float]:
    """The rate of every step: constant, then falling linearly to zero, epoch by epoch.

    Epoch e of the decay (1 to decay_epochs) has the factor 1 - e / (decay_epochs + 1), so that the
    epoch after the last would have 0 (CycleGAN paper, section 7.1, as its PyTorch reference
    rounds it).
    """
    constant = epochs - decay_epochs
    factors = [1.0] * constant + [1 - e / (decay_epochs + 1) for e in range(1, decay_epochs + 1)]
    return [learning_rate * factor for factor in factors for _ in range(steps_per_epoch)]


class CycleGAN:
    """Networks, losses, optimizers and pools of a training, one `step` at a time.

    Args:
        networks: the four networks.
        config: the sections loss and train are used, model.variant and device.amp.
        rates: the learning rate of every step.
        device: where to compute; with several workers their gradients are averaged, and the pools
            are one for all, the same in every worker.
    """

    def __init__(
        self,
        networks: Networks,
        config: Config,
        rates: list[float],
        device: Device | None = None,
    ):
        self.networks = networks
        self.device = device or Device()
        loss, train, amp = config.loss, config.train, config.device.amp
        n = Networks(**{name: _in_precision(cell, amp) for name, cell in vars(networks).items()})
        adversarial = AdversarialLoss(loss.gan)
        self.generator_loss = GeneratorLoss(
            n.g_ab, n.g_ba, n.d_a, n.d_b, adversarial,
            loss.lambda_a, loss.lambda_b, loss.lambda_identity,
        )  # fmt: skip
        tutorial = config.model.variant == "tutorial"
        # The notebook halves the discriminator loss that it prints, not the one it minimises.
        weight = 1.0 if tutorial else 0.5
        self.discriminator_loss = DiscriminatorLoss(n.d_a, n.d_b, adversarial, weight)
        # MindSpore adds epsilon before the bias correction, which makes its 1e-8 31 times as large
        # in the first step as in the algorithm's usual form (Kingma and Ba 2015, section 2). This
        # one is right there, where all gradients are new; later it is up to 31 times smaller.
        epsilon = 1e-8 if tutorial else 1e-8 * math.sqrt(1 - 0.999)
        self.optimizer_g = _adam((n.g_ab, n.g_ba), rates, train.beta1, epsilon)
        self.optimizer_d = _adam((n.d_a, n.d_b), rates, train.beta1, epsilon)
        step_g, step_d = (GeneratorStep, CheckedStep) if amp != "O2" else (ScaledStep, ScaledStep)
        self.step_g = step_g(self.generator_loss, self.optimizer_g).set_train()
        self.step_d = step_d(self.discriminator_loss, self.optimizer_d).set_train()
        self.pool_a = ImagePool(train.pool_size, [train.seed, 2, 0])
        self.pool_b = ImagePool(train.pool_size, [train.seed, 2, 1])
        self.steps_done = 0

    def capture(self, facts: dict) -> TrainingState:
        """All that changes while training, with `facts`, which holds the step."""
        scales = [[s.scale_value.item(), s.counter.item()] for s in self._scalers()]
        return capture_state(
            vars(self.networks), *self._changing(), {**facts, "loss_scales": scales}
        )

    def restore(self, state: TrainingState) -> None:
        """Go on from what `capture` gave, in a model built from the same configuration."""
        restore_state(state, vars(self.networks), *self._changing())
        for scaler, (scale, counter) in zip(self._scalers(), state.facts["loss_scales"]):
            scaler.scale_value.set_data(ms.Tensor(scale, ms.float32))
            scaler.counter.set_data(ms.Tensor(counter, ms.int32))
        self.steps_done = state.facts["step"]

    def _scalers(self):
        return [step.scaler for step in (self.step_g, self.step_d) if hasattr(step, "scaler")]

    def _changing(self):
        optimizers = {"optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d}
        return optimizers, {"pool_a": self.pool_a, "pool_b": self.pool_b}

    def step(self, real_a: np.ndarray, real_b: np.ndarray) -> dict[str, float]:
        """One update of both generators, then one of both discriminators on pooled fakes.

        real_a (N, C_a, H, W), real_b (N, C_b, H, W) float32 in [-1, 1]. Returns every loss term
        with its weight, by name: the mean over all workers.

        Raises:
            TrainingStopped: a loss or a gradient is not finite.
            WorkerLost: another worker is gone.
        """
        real_a, real_b = ms.Tensor(real_a), ms.Tensor(real_b)
        with watch_workers(self.device.workers):
            (_, terms_g, fake_a, fake_b), finite_g = self.step_g(real_a, real_b)
            pooled_a = self._pooled(self.pool_a, fake_a)
            pooled_b = self._pooled(self.pool_b, fake_b)
            (_, terms_d), finite_d = self.step_d(real_a, real_b, pooled_a, pooled_b)
            terms = np.concatenate([terms_g.asnumpy(), terms_d.asnumpy()])
        names = (*self.generator_loss.terms, *self.discriminator_loss.terms)
        values = self.device.gather(terms[None]).mean(axis=0)
        losses = dict(zip(names, values.tolist()))
        self.steps_done += 1
        finite = np.isfinite(values).all()
        if not (finite and finite_g.asnumpy() and finite_d.asnumpy()):
            what = "a gradient" if finite else "a loss"
            text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise TrainingStopped(
                f"step {self.steps_done}: {what} is not finite ({text}).\n"
                f"Try a lower train.learning_rate, loss.gan lsgan, or look for damaged images."
            )
        return losses

    def _pooled(self, pool, fakes):
        """This worker's part of what the pool gives for the fakes of all of them."""
        start = self.device.rank * len(fakes)
        everyones = pool.query(self.device.gather(fakes.asnumpy()))
        return ms.Tensor(everyones[start : start + len(fakes)])


class CheckedStep(nn.TrainOneStepCell):
    """One update, as its base class makes it, that also tells whether all gradients were finite.

    The network returns its loss first; only that is differentiated. Returns the network's outputs
    and a boolean scalar.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Cell):
        super().__init__(network, optimizer)
        # One forward pass in PyNative mode too, where the base class makes two.
        self.forward_backward = ops.value_and_grad(network, None, self.weights, has_aux=True)

    def construct(self, *inputs):
        outputs, gradients = self.forward_backward(*inputs)
        gradients = self.grad_reducer(gradients)
        finite = ms.amp.all_finite(gradients)
        return ops.depend(outputs, self.optimizer(gradients)), finite


class GeneratorStep(CheckedStep):
    """`CheckedStep` of a `GeneratorLoss`, a direction at a time: half the memory for its maps."""

    def __init__(self, network: GeneratorLoss, optimizer: nn.Cell):
        super().__init__(network, optimizer)
        self.of_a, self.of_b = (
            ops.value_and_grad(direction, None, self.weights, has_aux=True)
            for direction in (network.of_a, network.of_b)
        )
        self.each = ops.HyperMap()
        self.forward_backward = self.in_turn

    def in_turn(self, real_a, real_b):
        outputs_a, gradients_a = self.of_a(real_a)
        real_b = ops.depend(real_b, gradients_a)  # else both directions' maps are alive at once
        outputs_b, gradients_b = self.of_b(real_b)
        gradients = self.each(ops.add, gradients_a, gradients_b)
        return self.network.join(outputs_a, outputs_b), gradients


class ScaledStep(nn.TrainOneStepCell):
    """`CheckedStep` in float16: the loss is multiplied by a scale, so that small gradients do not
    vanish.

    Where gradients overflow, the update is left out and the scale halved; after 1000 good steps it
    doubles (Micikevicius et al. 2018, section 3.2). The boolean tells False only for an overflow at
    scale 1, which no scale can mend.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Cell):
        super().__init__(network, optimizer)
        self.scaler = ms.amp.DynamicLossScaler(2.0**16, 2, 1000)
        self.scaled = _ScaledLoss(network, self.scaler)
        self.forward_backward = ops.value_and_grad(self.scaled, None, self.weights, has_aux=True)

    def construct(self, *inputs):
        outputs, gradients = self.forward_backward(*inputs)
        gradients = self.scaler.unscale(self.grad_reducer(gradients))
        finite = ms.amp.all_finite(gradients)
        hopeless = ops.logical_and(ops.logical_not(finite), self.scaler.scale_value <= 1)
        if finite:
            outputs = ops.depend(outputs, self.optimizer(gradients))
        outputs = ops.depend(outputs, self.scaler.adjust(finite))
        return outputs, ops.logical_not(hopeless)


class _ScaledLoss(nn.Cell):
    def __init__(self, network, scaler):
        super().__init__(auto_prefix=False)
        self.network, self.scaler = network, scaler

    def construct(self, *inputs):
        outputs = self.network(*inputs)
        return (self.scaler.scale(outputs[0]), *outputs[1:])


def _in_precision(network, amp):
    """The network with inputs and outputs in float32 that computes as `amp` says."""
    if amp == "O0":
        return network
    kind = {"O2": ms.float16, "bf16": ms.bfloat16}[amp]
    return ms.amp.auto_mixed_precision(network, "O2", dtype=kind)


def _adam(cells, rates, beta1, epsilon):
    parameters = [p for cell in cells for p in cell.trainable_params()]
    with quiet_mindspore():  # it warns of a deprecated operator inside of its own Adam
        return nn.Adam(parameters, learning_rate=rates, beta1=beta1, eps=epsilon)
