"""The run folder: what a training leaves there after an epoch."""

import logging
import shutil
import time
from pathlib import Path

import numpy as np

import mindspore as ms

from cyclegan_ms.checkpoint import (
    GeneratorSpec,
    TrainingState,
    point_to_state,
    save_generator,
    save_state,
)
from cyclegan_ms.config import Config, UserError, save_config
from cyclegan_ms.cyclegan import CycleGAN, Networks, TrainingStopped
from cyclegan_ms.device import WorkerLost
from cyclegan_ms.files import atomic_path, remove_leftovers
from cyclegan_ms.page import environment, write_page
from cyclegan_ms.paths import nearest_folder
from cyclegan_ms.report import cycle_grid, draw_losses, read_metrics

__all__ = ["RunFolder", "generator_spec", "translate_samples"]

log = logging.getLogger(__name__)


class RunFolder:
    """Writes what a training leaves: settings, generators, pictures and page, states.

    Args:
        output: the folder.
        config: all settings.
        resume_command: what the user types to go on, for messages.
    """

    def __init__(self, output, config: Config, resume_command: str):
        self.path = Path(output)
        self.config = config
        self.resume_command = resume_command

    @property
    def metrics(self) -> Path:
        """The lines of losses."""
        return self.path / "metrics.jsonl"

    def prepare(self, networks: Networks, epochs: int, state: TrainingState | None) -> None:
        """Make the folders and write the settings, once there is room for `epochs` epochs.

        Args:
            networks: to be saved.
            epochs: how many are ahead.
            state: resumed from; None for a new training.

        Raises:
            UserError: there is no room.
        """
        needed = self._needed(networks, epochs, state)
        free = shutil.disk_usage(nearest_folder(self.path)).free
        if free < needed:
            raise UserError(
                f"--output {self.path}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB "
                f"needed"
            )
        for folder in ("samples", "checkpoints"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        save_config(self.config, self.path / "config.yaml")
        if state:  # it may be an older one than the last, which was damaged
            point_to_state(self.path / "checkpoints", state.facts["step"])

    def _needed(self, networks, epochs, state):
        """Bytes, roughly."""
        config = self.config
        sizes = {
            name: 4 * sum(p.size for p in cell.trainable_params())
            for name, cell in vars(networks).items()
        }
        generators = sizes["g_ab"] + sizes["g_ba"]
        channels = config.model.channels_a + config.model.channels_b
        pools = 4 * config.train.pool_size * channels * config.data.crop_size**2
        one_state = 3 * sum(sizes.values()) + pools  # weights and two moments
        kept = epochs // config.train.save_every + bool(config.train.evaluate_every)
        pictures = epochs * 24 * 3 * config.data.crop_size**2 if config.train.sample_every else 0
        states = 1 if state else config.train.keep + 1  # the others are there already
        return states * one_state + (kept + 2) * generators + pictures + 20e6

    def save_generators(self, networks: Networks, epoch: int, best: bool) -> None:
        """Write both generators, and again where this epoch is to be kept or is the best.

        Raises:
            TrainingStopped: they cannot be written.
        """
        folders = [self.path]
        if epoch % self.config.train.save_every == 0:
            folders.append(self.path / "checkpoints" / f"epoch_{epoch:04d}")
        if best:
            folders.append(self.path / "best")
        try:
            for folder in folders:
                folder.mkdir(exist_ok=True)
                for generator, direction in ((networks.g_ab, "a2b"), (networks.g_ba, "b2a")):
                    spec = generator_spec(self.config, direction, epoch)
                    save_generator(generator, spec, folder / f"g_{direction.replace('2', '')}.ckpt")
            if best:  # a run folder for infer.py and evaluate.py
                save_config(self.config, self.path / "best" / "config.yaml")
        except (OSError, RuntimeError) as error:
            raise TrainingStopped(
                f"{folder}: the generators could not be written ({error}).\nEarlier states are "
                f"whole: make room, then {self.resume_command}"
            ) from error

    def report(self, model: CycleGAN, epoch: int, samples, health, board) -> None:
        """Pictures and page; none of them is worth a training, so that no failure here ends it.

        Args:
            model: as it stands.
            epoch: its number.
            samples: test images of A and of B, (N, C, S, S) each, to translate; or none.
            health: is shown the translations.
            board: takes the picture too.
        """
        try:
            if samples:
                cycles = translate_samples(model.networks, samples)
                for name, (real, fake, _) in zip(("g_ab", "g_ba"), cycles):
                    health.watch_samples(name, real, fake)
                grid = cycle_grid(cycles, self.config.data.domains)
                picture = self.path / "samples" / f"epoch_{epoch:04d}.png"
                with atomic_path(picture) as temporary:
                    grid.save(temporary)
                board.picture(grid, model.steps_done)
            rows = read_metrics(self.metrics)
            draw_losses(rows, self.path / "losses.png")
            write_page(self.path, rows, environment(model.device))
        except Exception as error:
            log.warning("the report of epoch %d could not be made: %s", epoch, error)

    def save_state(self, model: CycleGAN, facts: dict) -> None:
        """Write the whole state of a training, with what else a resumed one needs.

        Raises:
            TrainingStopped: it cannot be written.
        """
        folder = self.path / "checkpoints"
        try:
            save_state(model.capture(facts), folder, self.config.train.keep)
        except OSError as error:
            raise TrainingStopped(
                f"{folder}: {error.strerror or error}; step {facts['step']} could not be saved.\n"
                f"Earlier states are whole: make room, then {self.resume_command}"
            ) from error

    def wait_for_state(self, step: int, seconds: float = 3600) -> None:
        """Wait until another worker has saved a step.

        Not in a collective: those of the CPU give a worker up that is busy for half a minute.

        Raises:
            WorkerLost: it has not.
        """
        latest = self.path / "checkpoints" / "latest"
        end = time.monotonic() + seconds
        while not latest.exists() or latest.read_text() != f"step_{step:08d}":
            if time.monotonic() > end:
                raise WorkerLost(f"the first worker has not saved step {step} in {seconds} s")
            time.sleep(0.05)


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


def translate_samples(networks: Networks, samples) -> list[tuple]:
    """Per direction (real, fake, reconstructed), each (N, C, S, S), of images of A and of B."""
    cycles = []
    for real, there, back in zip(
        samples, (networks.g_ab, networks.g_ba), (networks.g_ba, networks.g_ab)
    ):
        fake = np.concatenate([there(ms.Tensor(image[None])).asnumpy() for image in real])
        rec = np.concatenate([back(ms.Tensor(image[None])).asnumpy() for image in fake])
        cycles.append((real, fake, rec))
    return cycles
