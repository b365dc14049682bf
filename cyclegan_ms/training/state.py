"""The whole state of a training: what it is made of, and how it survives on the disk."""

import hashlib
import json
import logging
import os
import random
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from cyclegan_ms.errors import UserError
from cyclegan_ms.files import GENERATOR_FILES, atomic_path, write_through
from cyclegan_ms.model.image_pool import ImagePool

if TYPE_CHECKING:
    from cyclegan_ms.training.cyclegan import CycleGAN

__all__ = ["Everything", "Journal", "TrainingState", "load_state", "point_to_state", "save_state"]

log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """All that a training needs to go on as if it had never stopped."""

    arrays: dict[str, np.ndarray]
    """parameters of the networks, state of the optimizers, images of the pools"""
    facts: dict
    """step, settings, random streams, and everything else that is JSON"""


class Journal(Protocol):
    """Something beside the model that grows while training: a file, or what was found out."""

    def state(self) -> Any:
        """Return what is needed to go on in the same way after a resume; JSON."""

    def restore(self, state: Any) -> None:
        """Go back to a state: drop what was added after it."""


@dataclass
class Everything:
    """Everything that changes while training: the one list of what a resume needs.

    The order of the data and its augmentation are functions of the seed and the step, so the step
    stands for them.
    """

    networks: dict
    """cells by name"""
    optimizers: dict
    """Adams by name"""
    pools: dict[str, ImagePool]
    scalers: list
    """loss scales, where there are any"""
    journals: dict[str, Journal] = field(default_factory=dict)
    """by their name among the facts"""

    @classmethod
    def of(cls, model: "CycleGAN", journals: dict[str, Journal]) -> "Everything":
        """List what changes in a model and in the files beside it."""
        steps = (model.step_g, model.step_d)
        averages = {
            f"average_{name}": getattr(model.shown, name) for name in ("g_ab", "g_ba") if model.ema
        }
        return cls(
            networks={**model.networks.cells(), **averages},
            optimizers={"optimizer_g": model.optimizer_g, "optimizer_d": model.optimizer_d},
            pools={"pool_a": model.pool_a, "pool_b": model.pool_b},
            scalers=[step.scaler for step in steps if hasattr(step, "scaler")],
            journals=journals,
        )

    def written(self) -> dict:
        """Return the states of the journals, by name."""
        return {name: journal.state() for name, journal in self.journals.items()}

    def capture(self, facts: dict) -> TrainingState:
        """Copy the state.

        Args:
            facts: step, settings, states of the journals and what else is to be kept, JSON.
        """
        import mindspore as ms

        arrays = {
            f"{name}/{key}": parameter.asnumpy().copy()
            for name, parameters in self._parameters().items()
            for key, parameter in parameters.items()
        }
        for name, pool in self.pools.items():
            if pool.images:
                arrays[f"{name}/images"] = np.stack([image.asnumpy() for image in pool.images])
        version, keys, gauss = random.getstate()
        kind, numpy_keys, *numpy_rest = np.random.get_state()
        streams = {
            "python": [version, list(keys), gauss],
            "numpy": [kind, np.asarray(numpy_keys).tolist(), *numpy_rest],
            "mindspore": ms.get_rng_state().asnumpy().tolist(),
            "pools": {name: pool.rng.bit_generator.state for name, pool in self.pools.items()},
        }
        scales = [[s.scale_value.item(), s.counter.item()] for s in self.scalers]
        return TrainingState(arrays, {**facts, "loss_scales": scales, "random": streams})

    def misfit(self, state: TrainingState) -> str:
        """Say what of a state is missing or has another shape; nothing if it is complete."""
        for name, parameters in self._parameters().items():
            for key, parameter in parameters.items():
                array = state.arrays.get(f"{name}/{key}")
                if array is None:
                    return f"{name}/{key} is missing"
                if array.shape != parameter.shape:
                    return f"{name}/{key} is {array.shape}, not {parameter.shape}"
        missing = {"loss_scales", "random"} - set(state.facts)
        return f"{min(missing)} is missing" if missing else ""

    def restore(self, state: TrainingState) -> None:
        """Give a freshly built training the state that `capture` copied."""
        import mindspore as ms

        for name, parameters in self._parameters().items():
            for key, parameter in parameters.items():
                parameter.set_data(ms.Tensor(state.arrays[f"{name}/{key}"], parameter.dtype))
        for scaler, (scale, counter) in zip(self.scalers, state.facts["loss_scales"]):
            scaler.scale_value.set_data(ms.Tensor(scale, ms.float32))
            scaler.counter.set_data(ms.Tensor(counter, ms.int32))
        streams = state.facts["random"]
        for name, pool in self.pools.items():
            pool.images = [ms.Tensor(image) for image in state.arrays.get(f"{name}/images", ())]
            pool.rng.bit_generator.state = streams["pools"][name]
        version, keys, gauss = streams["python"]
        random.setstate((version, tuple(keys), gauss))
        np.random.set_state(tuple(streams["numpy"]))
        ms.set_rng_state(ms.Tensor(streams["mindspore"], ms.uint8))
        for name, journal in self.journals.items():
            if name in state.facts:
                journal.restore(state.facts[name])

    def _parameters(self):
        """Find every parameter that training changes, once: {cell's name: {key: parameter}}."""
        found = {name: dict(cell.parameters_and_names()) for name, cell in self.networks.items()}
        inside = {id(p) for parameters in found.values() for p in parameters.values()}
        for name, optimizer in self.optimizers.items():
            found[name] = {p.name: p for p in optimizer.get_parameters() if id(p) not in inside}
        return found


def save_state(state: TrainingState, folder, keep: int) -> Path:
    """Write a state as step_XXXXXXXX below `folder`, completely or not at all.

    It is written to a temporary place with a checksum, flushed to the disk and renamed; only then
    does the file `latest` name it, and are states beyond the newest `keep` removed.

    Raises:
        OSError: the disk is full or cannot be written; earlier states stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / _name(state.facts["step"])
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        arrays = save_arrays(state.arrays)
        facts = json.dumps(state.facts).encode()
        sums = {"arrays.safetensors": arrays, "facts.json": facts}
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in sums.items()}
        for name, data in {**sums, "sha256.json": json.dumps(checksums).encode()}.items():
            write_through(temporary / name, data)
        # A state of this step is a damaged one: a whole one would have been resumed from.
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        point_to_state(folder, state.facts["step"])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    # What is newer than this state was damaged, or the training would have gone on from it.
    states = _states(folder)
    behind = [path for path in states if path <= final]
    for old in set(states) - set(behind[-keep:]):
        shutil.rmtree(old, ignore_errors=True)
    return final


def point_to_state(folder, step: int) -> None:
    """Let the file `latest` below `folder` name the state of a step."""
    with atomic_path(Path(folder) / "latest") as pointer:
        write_through(pointer, _name(step).encode())


def _name(step):
    return f"step_{step:08d}"


def load_state(folder, fault: Callable[[TrainingState], str] = lambda state: "") -> TrainingState:
    """Load the newest whole state below `folder`, passing over damaged ones with a warning.

    Args:
        folder: the folder of states.
        fault: says what a state lacks that its checksum does not tell; nothing if it is complete.

    Raises:
        UserError: there is none.
    """
    folder = Path(folder)
    for path in reversed(_states(folder)):
        try:
            state = _read_state(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("passed over %s: damaged (%s)", path, error)
            continue
        if not (found := fault(state)):
            return state
        step = state.facts["step"]
        log.warning("passed over the state of step %d: damaged (%s)", step, found)
    advice = "remove the run folder and start again"
    if (folder.parent / GENERATOR_FILES["a2b"]).is_file():
        run = shlex.quote(str(folder.parent))
        advice = f"start another run, from its weights with --train.init_from {run}"
    raise UserError(f"{folder}: holds no complete state to resume from; {advice}")


def _states(folder):
    """Return the states below a folder, the oldest first, and no copies under other names."""
    return sorted(p for p in folder.glob("step_*") if re.fullmatch(r"step_\d{8,}", p.name))


def _read_state(path):
    checksums = json.loads((path / "sha256.json").read_bytes())
    data = {name: (path / name).read_bytes() for name in ("arrays.safetensors", "facts.json")}
    for name, content in data.items():
        if hashlib.sha256(content).hexdigest() != checksums[name]:
            raise ValueError(f"{name} does not match its checksum")
    state = TrainingState(load_arrays(data["arrays.safetensors"]), json.loads(data["facts.json"]))
    if _name(state.facts["step"]) != path.name:
        raise ValueError(f"it is of step {state.facts['step']}")
    return state
