"""The run folder: what a training leaves on the disk, and where."""

import math
import os
import shutil
import time
from pathlib import Path

from PIL import Image

from cyclegan_ms.config import Config, save_config
from cyclegan_ms.data.domains import Ranges
from cyclegan_ms.device import WorkerLost
from cyclegan_ms.errors import TrainingStopped, UserError
from cyclegan_ms.files import GENERATOR_FILES, atomic_path, nearest_folder, remove_leftovers
from cyclegan_ms.training.cyclegan import Networks, generator_spec
from cyclegan_ms.training.resume import resume_command
from cyclegan_ms.training.schedule import Schedule
from cyclegan_ms.training.state import TrainingState, point_to_state, save_state
from cyclegan_ms.weights.checkpoint import save_generator

__all__ = ["RunFolder"]


class RunFolder:
    """Writes what a training leaves: settings, generators, pictures, states.

    Args:
        output: the folder.
        config: all settings.
        ranges: of the pictures of A and of B with more than 8 bits.
    """

    def __init__(self, output, config: Config, ranges: Ranges = (None, None)):
        self.path = Path(output)
        self.config, self.ranges = config, ranges
        self.states = self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The lines of losses."""
        return self.path / "metrics.jsonl"

    def check_room(
        self, networks: Networks, schedule: Schedule, state: TrainingState | None
    ) -> None:
        """Raise UserError if the disk has no room for what is ahead.

        Args:
            networks: the networks to be saved.
            schedule: the steps of the training.
            state: the state to resume from; None for a new training.
        """
        done = state.facts["step"] if state else 0
        epochs = math.ceil((schedule.last - done) / schedule.per_epoch)
        needed = self._needed(networks, epochs, state)
        free = shutil.disk_usage(nearest_folder(self.path)).free
        if free < needed:
            raise UserError(
                f"--output {self.path}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB "
                f"needed"
            )

    def prepare(self, state: TrainingState | None) -> None:
        """Make the folders and write the settings.

        Args:
            state: the state to resume from; None for a new training.
        """
        self.states.mkdir(parents=True, exist_ok=True)
        if self.config.train.sample_every:
            (self.path / "samples").mkdir(exist_ok=True)
        for folder in (self.path / "samples", self.path / "best", self.states):
            remove_leftovers(folder)
        if not any(self.path.glob(".*.lock")):  # of a file that another program writes there
            remove_leftovers(self.path, below=False)
        save_config(self.config, self.path / "config.yaml")
        if state:  # it may be an older one than the last, which was damaged
            point_to_state(self.states, state.facts["step"])
        elif self.metrics.is_file():  # lines of a training that ended before its first state
            os.truncate(self.metrics, 0)

    def _needed(self, networks, epochs, state):
        """Estimate the bytes that `epochs` epochs will write."""
        config = self.config
        sizes = {
            name: 4 * sum(p.size for p in cell.trainable_params())
            for name, cell in networks.cells().items()
        }
        generators = sizes["g_ab"] + sizes["g_ba"]
        channels = config.model.channels_a + config.model.channels_b
        pools = 4 * config.train.pool_size * channels * config.data.crop_size**2
        one_state = 3 * sum(sizes.values()) + pools  # weights and two moments
        one_state += generators if config.train.ema else 0
        kept = epochs // config.train.save_every + bool(config.train.evaluate_every)
        pictures = epochs * 24 * 3 * config.data.test_size**2 if config.train.sample_every else 0
        states = 1 if state else config.train.keep + 1  # the others are there already
        return states * one_state + (kept + 2) * generators + pictures + 20e6

    def save_generators(self, networks: Networks, epoch: int, best: bool, whole: bool) -> None:
        """Write both generators, and again if this epoch is to be kept or is the best.

        Args:
            networks: the networks.
            epoch: the epoch that they are in.
            best: whether it is the best so far.
            whole: whether it ends here.

        Raises:
            TrainingStopped: they cannot be written.
        """
        folders = [self.path]
        if whole and epoch % self.config.train.save_every == 0:
            folders.append(self.states / f"epoch_{epoch:04d}")
        if best:
            folders.append(self.path / "best")
        try:
            for folder in folders:
                folder.mkdir(exist_ok=True)
                for direction, generator in (("a2b", networks.g_ab), ("b2a", networks.g_ba)):
                    spec = generator_spec(self.config, direction, epoch, self.ranges)
                    save_generator(generator, spec, folder / GENERATOR_FILES[direction])
            if best:  # a run folder for infer.py and evaluate.py
                save_config(self.config, self.path / "best" / "config.yaml")
        except (OSError, RuntimeError) as error:
            raise TrainingStopped(
                f"{folder}: the generators could not be written ({error}).\nEarlier states are "
                f"whole: make room, then {resume_command(self.path)}"
            ) from error

    def save_samples(self, grid: Image.Image, epoch: int) -> None:
        """Write the sample pictures of an epoch."""
        with atomic_path(self.path / "samples" / f"epoch_{epoch:04d}.png") as temporary:
            grid.save(temporary)

    def drop_samples(self, epoch: int) -> None:
        """Remove the sample pictures of an epoch, if there are any."""
        (self.path / "samples" / f"epoch_{epoch:04d}.png").unlink(missing_ok=True)

    def save_state(self, state: TrainingState) -> None:
        """Write the whole state of a training.

        Raises:
            TrainingStopped: it cannot be written.
        """
        try:
            save_state(state, self.states, self.config.train.keep)
        except OSError as error:
            raise TrainingStopped(
                f"{self.states}: {error.strerror or error}; step {state.facts['step']} could not "
                f"be saved.\nEarlier states are whole: make room, then "
                f"{resume_command(self.path)}"
            ) from error

    def wait_for_state(self, step: int, seconds: float = 3600) -> None:
        """Wait until another worker has saved a step.

        Not in a collective: those of the CPU give a worker up that is busy for half a minute.

        Raises:
            WorkerLost: it has not.
        """
        latest = self.states / "latest"
        end = time.monotonic() + seconds
        while not latest.exists() or latest.read_text() != f"step_{step:08d}":
            if time.monotonic() > end:
                raise WorkerLost(f"the first worker has not saved step {step} in {seconds} s")
            time.sleep(0.05)
