"""The PyTorch reference trained as train.py trains: same images, first weights, rates and pools.

    python tests/pytorch_training.py --config configs/apple2orange_64_paper.yaml \\
        --train.max_steps 6114

prints every epoch's mean losses as train.py does, to be compared with them.
"""

import logging
import sys
from collections.abc import Iterator

import numpy as np
from pytorch_reference import Discriminator, Generator, Reference, copy_weights

from cyclegan_ms.cli import command
from cyclegan_ms.config import Config, build_config, config_parser
from cyclegan_ms.data.splits import load_domains
from cyclegan_ms.data.stream import UnpairedStream, epoch_steps, iterate
from cyclegan_ms.device import setup_device
from cyclegan_ms.model.image_pool import ImagePool
from cyclegan_ms.training.cyclegan import build_networks
from cyclegan_ms.training.schedule import learning_rates


def epoch_length(config: Config) -> int:
    """Steps of an epoch."""
    return epoch_steps(*_domains(config), config.data.batch_size)


def train_reference(config: Config) -> Iterator[dict[str, float]]:
    """Train, and yield every step's losses. Only the paper's variant, at Adam's usual betas."""
    model, training = config.model, config.train
    setup_device("CPU", seed=training.seed)
    a, b = model.channels_a, model.channels_b
    modules = {
        "g_ab": Generator(a, b, model.width, model.blocks),
        "g_ba": Generator(b, a, model.width, model.blocks),
        "d_a": Discriminator(a, model.width),
        "d_b": Discriminator(b, model.width),
    }
    for name, cell in build_networks(model).cells().items():
        copy_weights(cell, modules[name])
    lambdas = (config.loss.lambda_a, config.loss.lambda_b, config.loss.lambda_identity)
    reference = Reference(modules, config.loss.gan, lambdas=lambdas)
    pools = [ImagePool(training.pool_size, [training.seed, 2, side]) for side in (0, 1)]
    rates = np.repeat(
        learning_rates(training.learning_rate, training.epochs, training.decay_epochs),
        epoch_length(config),
    )
    stream = UnpairedStream(*_domains(config), config.data, training.seed, training.epochs)
    for batch, rate in zip(iterate(stream), rates[: training.max_steps or None]):
        for adam in (reference.adam_g, reference.adam_d):
            adam.param_groups[0]["lr"] = rate
        images = (np.ascontiguousarray(batch[name]) for name in ("real_a", "real_b"))
        yield reference.step(*images, *pools)


def _domains(config):
    return load_domains(config.data, "train", (config.model.channels_a, config.model.channels_b))


@command
def main(argv=None):
    parser = config_parser("pytorch_training.py", "Train the PyTorch reference; losses to stdout.")
    config = build_config(parser.parse_args(argv))
    logging.getLogger("cyclegan_ms").setLevel(logging.WARNING)
    steps, losses = epoch_length(config), []
    for step, values in enumerate(train_reference(config), 1):
        losses.append(values)
        if step % steps == 0:
            means = {name: np.mean([row[name] for row in losses]) for name in values}
            text = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(f"epoch {step // steps}/{config.train.epochs}  {text}", flush=True)
            losses = []


if __name__ == "__main__":
    sys.exit(main())
