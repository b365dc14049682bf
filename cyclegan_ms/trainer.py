"""The loop around two `nn.TrainOneStepCell`s: generators first, then discriminators."""

import logging
import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.checkpoint import (
    GeneratorSpec,
    TrainingState,
    atomic_path,
    capture_state,
    load_state,
    restore_state,
    save_generator,
    save_state,
)
from cyclegan_ms.config import Config, ModelConfig, UserError, config_values, save_config
from cyclegan_ms.data import UnpairedStream, create_dataset, epoch_steps, load_domains
from cyclegan_ms.device import quiet_mindspore, setup_device
from cyclegan_ms.image_pool import ImagePool
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.losses import AdversarialLoss, DiscriminatorLoss, GeneratorLoss
from cyclegan_ms.networks import PatchGANDiscriminator, ResNetGenerator
from cyclegan_ms.report import Progress, draw_losses, read_metrics, sample_grid, sample_images
from cyclegan_ms.resume import check_changes, fingerprint
from cyclegan_ms.tutorial import TutorialDiscriminator, TutorialGenerator

__all__ = [
    "CycleGAN",
    "Networks",
    "TrainingStopped",
    "build_networks",
    "check_output",
    "learning_rates",
    "train",
]

log = logging.getLogger(__name__)


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
        config: the sections loss and train are used.
        rates: the learning rate of every step.
    """

    def __init__(self, networks: Networks, config: Config, rates: list[float]):
        self.networks = networks
        n, loss, train = networks, config.loss, config.train
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
        # in the first step as in the algorithm's usual form (Kingma and Ba 2015, section 2).
        epsilon = 1e-8 if tutorial else 1e-8 * math.sqrt(1 - 0.999)
        self.optimizer_g = _adam((n.g_ab, n.g_ba), rates, train.beta1, epsilon)
        self.optimizer_d = _adam((n.d_a, n.d_b), rates, train.beta1, epsilon)
        self.step_g = CheckedStep(self.generator_loss, self.optimizer_g).set_train()
        self.step_d = CheckedStep(self.discriminator_loss, self.optimizer_d).set_train()
        self.pool_a = ImagePool(train.pool_size, [train.seed, 2, 0])
        self.pool_b = ImagePool(train.pool_size, [train.seed, 2, 1])
        self.steps_done = 0

    def capture(self, facts: dict) -> TrainingState:
        """All that changes while training, with `facts`, which holds the step."""
        return capture_state(vars(self.networks), *self._changing(), facts)

    def restore(self, state: TrainingState) -> None:
        """Go on from what `capture` gave, in a model built from the same configuration."""
        restore_state(state, vars(self.networks), *self._changing())
        self.steps_done = state.facts["step"]

    def _changing(self):
        optimizers = {"optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d}
        return optimizers, {"pool_a": self.pool_a, "pool_b": self.pool_b}

    def step(self, real_a: np.ndarray, real_b: np.ndarray) -> dict[str, float]:
        """One update of both generators, then one of both discriminators on pooled fakes.

        real_a (N, C_a, H, W), real_b (N, C_b, H, W) float32 in [-1, 1]. Returns every loss term
        with its weight, by name.

        Raises:
            TrainingStopped: a loss or a gradient is not finite.
        """
        real_a, real_b = ms.Tensor(real_a), ms.Tensor(real_b)
        (_, terms_g, fake_a, fake_b), finite_g = self.step_g(real_a, real_b)
        pooled_a = ms.Tensor(self.pool_a.query(fake_a.asnumpy()))
        pooled_b = ms.Tensor(self.pool_b.query(fake_b.asnumpy()))
        (_, terms_d), finite_d = self.step_d(real_a, real_b, pooled_a, pooled_b)
        names = (*self.generator_loss.terms, *self.discriminator_loss.terms)
        values = np.concatenate([terms_g.asnumpy(), terms_d.asnumpy()])
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


def _adam(cells, rates, beta1, epsilon):
    parameters = [p for cell in cells for p in cell.trainable_params()]
    with quiet_mindspore():  # it warns of a deprecated operator inside of its own Adam
        return nn.Adam(parameters, learning_rate=rates, beta1=beta1, eps=epsilon)


def check_output(output, resume: bool = False) -> Path:
    """Make the run folder, which must be new or empty, or for `resume` hold a run.

    Raises:
        UserError: it is not so, or cannot be written.
    """
    output = Path(output)
    if resume:
        if not (output / "checkpoints").is_dir():
            raise UserError(f"--output {output}: holds no run to resume")
        return output
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise UserError(
                f"--output {output} is not empty: --resume continues it, or choose another "
                f"folder; nothing is overwritten"
            )
        (output / "samples").mkdir()
        (output / "checkpoints").mkdir()
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}") from error
    return output


def train(
    config: Config,
    output,
    resume: bool = False,
    progress: bool | None = None,
    stop: StopRequest | None = None,
) -> CycleGAN:
    """Train as configured and fill the run folder `output`.

    Args:
        config: all settings.
        output: a new or empty folder, or the run to resume.
        resume: go on from the newest complete state, to the same end, bit for bit.
        progress: whether to show a progress bar; None shows one on a terminal.
        stop: a program's watch over its signals; None notes them while training.

    Raises:
        UserError: images, folder, disk or device are not as needed; before the first step.
        TrainingStopped: diverged, interrupted by SIGINT or SIGTERM, or a state cannot be written.
    """
    channels = (config.model.channels_a, config.model.channels_b)
    domains = load_domains(config.data, "train", channels)
    tests = load_domains(config.data, "test", channels) if config.train.sample_every else ()
    samples = [sample_images(domain, config.data.crop_size) for domain in tests]
    per_epoch = epoch_steps(*domains, config.data.batch_size)
    epochs = config.train.epochs
    rates = learning_rates(config.train.learning_rate, epochs, config.train.decay_epochs, per_epoch)
    last = min(len(rates), config.train.max_steps or len(rates))

    output = check_output(output, resume)
    state = load_state(output / "checkpoints") if resume else None
    images = fingerprint(*domains)
    if state:
        check_changes(state.facts, config, images, rates)
    setup_device(config.device.target, config.device.mode, config.device.id, seed=config.train.seed)
    model = CycleGAN(build_networks(config.model), config, rates)
    _check_disk(output, model.networks, math.ceil(last / per_epoch), config)
    save_config(config, output / "config.yaml")
    if state:
        model.restore(state)
    start = model.steps_done
    log.info(
        "%d images of %s, %d of %s; %d steps an epoch, %s of %d, into %s",
        len(domains[0]), config.data.domains[0], len(domains[1]), config.data.domains[1],
        per_epoch, f"from step {start + 1}" if start else "all", last, output,
    )  # fmt: skip
    if start >= last:
        log.info("nothing left to do: %d steps are done", start)
        return model

    # The notebook's file fixes which images go together; the paper pairs them anew each epoch.
    paired = config.model.variant == "tutorial" and Path(config.data.root).is_file()
    stream = UnpairedStream(
        *domains, config.data, config.train.seed, epochs, start * config.data.batch_size, paired
    )
    batches = create_dataset(stream).create_dict_iterator(num_epochs=1, output_numpy=True)
    metrics = output / "metrics.jsonl"
    bar = sys.stderr.isatty() if progress is None else progress
    fixed = {"config": config_values(config), "images": images, "rates": rates}
    saved_at = time.monotonic()
    with (
        stop or StopRequest() as stop,
        Progress(metrics, last, 2 * config.data.batch_size, config.train.log_every, bar) as report,
    ):
        if state:
            report.restore(state.facts["report"], start)
        for step, batch in enumerate(batches, start + 1):
            losses = model.step(batch["real_a"], batch["real_b"])
            if step == start + 1:
                stop.install()
            epoch = (step - 1) // per_epoch + 1
            report.step(epoch, losses)
            epoch_ends = step % per_epoch == 0
            if epoch_ends or step % config.train.log_every == 0:
                report.write_line(epoch, step, rates[step - 1])
            if epoch_ends:
                report.end_epoch(epoch, epochs)
            old = time.monotonic() - saved_at > 60 * config.train.state_minutes
            if not (epoch_ends or old or stop.caught or step == last):
                continue

            facts = {"step": step, "report": report.state(), **fixed}
            if step == last and not epoch_ends:  # not part of the state: a longer run goes on here
                report.write_line(epoch, step, rates[step - 1])
                report.end_epoch(epoch, epochs)
            _save(model, facts, output, config)
            saved_at = time.monotonic()
            if stop.caught:
                raise TrainingStopped(
                    f"stopped by {stop.caught.name} after step {step}, all of it saved; go on "
                    f"with\npython scripts/train.py --resume --output {output}",
                    status=128 + stop.caught,
                )
            if epoch_ends or step == last:
                _publish(model, config, output, epoch, samples, final=step == last)
            report.restart_clock()
            if step == last:
                break
    return model


def _save(model, facts, output, config):
    folder = output / "checkpoints"
    try:
        save_state(model.capture(facts), folder, config.train.keep)
    except OSError as error:
        raise TrainingStopped(
            f"{folder}: {error.strerror or error}; step {facts['step']} could not be saved.\n"
            f"Earlier states are whole: make room, then python scripts/train.py --resume "
            f"--output {output}"
        ) from error


def _publish(model, config, output, epoch, samples, final):
    """Generators and pictures of an epoch."""
    n = model.networks
    folders = [output]
    if epoch % config.train.save_every == 0:
        folders.append(output / "checkpoints" / f"epoch_{epoch:04d}")
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            for generator, direction in ((n.g_ab, "a2b"), (n.g_ba, "b2a")):
                spec = generator_spec(config, direction, epoch)
                save_generator(generator, spec, folder / f"g_{direction.replace('2', '')}.ckpt")
    except (OSError, RuntimeError) as error:
        raise TrainingStopped(
            f"{folder}: the generators could not be written ({error}); the state is saved, make "
            f"room and use --resume"
        ) from error
    try:
        if samples and (final or epoch % config.train.sample_every == 0):
            grid = cycle_grid(n, samples, config.data.domains)
            with atomic_path(output / "samples" / f"epoch_{epoch:04d}.png") as temporary:
                grid.save(temporary)
        draw_losses(read_metrics(output / "metrics.jsonl"), output / "losses.png")
    except Exception as error:  # no picture is worth a training
        log.warning("the pictures of epoch %d could not be made: %s", epoch, error)


def generator_spec(config: Config, direction: str, epoch: int) -> GeneratorSpec:
    """The description of a generator trained under a configuration."""
    model = config.model
    channels = (model.channels_a, model.channels_b)
    source, target = channels if direction == "a2b" else channels[::-1]
    return GeneratorSpec(
        direction=direction,
        domains=tuple(config.data.domains),
        in_channels=source,
        out_channels=target,
        width=model.width,
        blocks=model.blocks,
        variant=model.variant,
        shared_blocks=model.variant == "tutorial",
        image_size=config.data.crop_size,
        epoch=epoch,
    )


def cycle_grid(networks: Networks, samples, domains):
    """real | fake | reconstructed, both directions, for images (N, C, S, S) of A and of B."""
    columns = []
    cycles = ((networks.g_ab, networks.g_ba), (networks.g_ba, networks.g_ab))
    for real, (there, back), (source, target) in zip(samples, cycles, (domains, domains[::-1])):
        fake = np.concatenate([there(ms.Tensor(image[None])).asnumpy() for image in real])
        rec = np.concatenate([back(ms.Tensor(image[None])).asnumpy() for image in fake])
        columns += [(source, real), (f"to {target}", fake), ("and back", rec)]
    return sample_grid(columns)


def _check_disk(output, networks, epochs, config):
    sizes = {
        name: 4 * sum(p.size for p in cell.trainable_params())
        for name, cell in vars(networks).items()
    }
    generators = sizes["g_ab"] + sizes["g_ba"]
    channels = config.model.channels_a + config.model.channels_b
    pools = 4 * config.train.pool_size * channels * config.data.crop_size**2
    state = 3 * sum(sizes.values()) + pools  # weights and two moments
    kept = epochs // config.train.save_every
    pictures = epochs * 24 * 3 * config.data.crop_size**2 if config.train.sample_every else 0
    needed = (config.train.keep + 1) * state + (kept + 2) * generators + pictures + 20e6
    free = shutil.disk_usage(output).free
    if free < needed:
        raise UserError(
            f"--output {output}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB needed"
        )
