"""What a run leaves on disk: the whole training state, and generators that describe themselves."""

import hashlib
import json
import logging
import os
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import UserError
from cyclegan_ms.files import atomic_path
from cyclegan_ms.networks import ResNetGenerator
from cyclegan_ms.paths import check_readable
from cyclegan_ms.tutorial import TutorialGenerator

__all__ = [
    "METADATA",
    "GeneratorSpec",
    "TrainingState",
    "capture_state",
    "load_generator",
    "load_state",
    "point_to_state",
    "read_generator",
    "restore_state",
    "save_generator",
    "save_state",
]

log = logging.getLogger(__name__)

METADATA = "cyclegan_ms"
"""Key of the description in a generator's file, of every kind."""


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything needed to rebuild a generator and to use it rightly; stored in its file."""

    direction: str
    """a2b or b2a"""
    domains: tuple[str, str]
    """names of the domains A and B"""
    in_channels: int = 3
    out_channels: int = 3
    width: int = 64
    blocks: int = 9
    variant: str = "paper"
    shared_blocks: bool = False
    """whether the tutorial's one block serves for all (tutorial variant only)"""
    image_size: int = 256
    """side of the images it was trained on, in pixels"""
    epoch: int = 0
    """epochs it was trained for"""

    @property
    def name(self) -> str:
        """The direction in words, such as apple2orange."""
        a, b = self.domains
        return f"{a}2{b}" if self.direction == "a2b" else f"{b}2{a}"

    def to_json(self) -> str:
        """For a file's metadata."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, path) -> "GeneratorSpec":
        """What `to_json` gave, from the file `path`.

        Raises:
            UserError: it is something else.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, "domains": tuple(fields["domains"])})
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"{path}: of another version of cyclegan_ms, or damaged") from error

    def build(self) -> nn.Cell:
        """A generator of this description with fresh weights."""
        shape = (self.in_channels, self.out_channels, self.width, self.blocks)
        if self.variant == "tutorial":
            return TutorialGenerator(*shape, self.shared_blocks)
        return ResNetGenerator(*shape)


def save_generator(generator: nn.Cell, spec: GeneratorSpec, path) -> None:
    """Write a generator and its description to one file."""
    # Names by position in the network: a parameter's own name carries the prefix of its run.
    parameters = [{"name": n, "data": p} for n, p in generator.parameters_and_names()]
    with atomic_path(path) as temporary:
        note = {METADATA: spec.to_json()}
        ms.save_checkpoint(parameters, str(temporary), append_dict=note)
        content = temporary.read_bytes()
        temporary.unlink()  # MindSpore writes it read-only, and for its owner alone
        temporary.write_bytes(content)


def read_generator(path) -> tuple[GeneratorSpec, dict]:
    """The description and the parameters (by name) in a file.

    Raises:
        UserError: the file is missing, damaged, or not a generator of this package.
    """
    check_readable(path)
    try:
        parameters = ms.load_checkpoint(str(path))
    except Exception as error:  # MindSpore raises ValueError, RuntimeError and others here
        raise UserError(f"{path}: not a MindSpore checkpoint, or damaged") from error
    if METADATA not in parameters:
        raise UserError(f"{path}: a checkpoint, but not a generator saved by cyclegan_ms")
    return GeneratorSpec.from_json(parameters.pop(METADATA), path), parameters


def load_generator(path) -> tuple[nn.Cell, GeneratorSpec]:
    """A generator ready to use, and its description.

    Raises:
        UserError: the file is missing, damaged, or not a generator of this package.
    """
    spec, parameters = read_generator(path)
    generator = spec.build()
    try:
        missing, unexpected = ms.load_param_into_net(generator, parameters, strict_load=True)
    except RuntimeError:  # a shape that does not fit
        missing = unexpected = True
    if missing or unexpected:
        raise UserError(f"{path}: its weights do not fit its own description; the file is damaged")
    return generator.set_train(False), spec


# ------------------------------------------------------------------------ the training state


@dataclass
class TrainingState:
    """All that a training needs to go on as if it had never stopped."""

    arrays: dict[str, np.ndarray]
    """parameters of the networks, state of the optimizers, images of the pools"""
    facts: dict
    """steps done, every random stream, and what the caller adds; JSON"""


def capture_state(networks: dict, optimizers: dict, pools: dict, facts: dict) -> TrainingState:
    """Copy a training's state, to be given back by `restore_state`.

    The order of the data and its augmentation are functions of the seed and the step, so the step
    in `facts` stands for them.

    Args:
        networks: cells by name.
        optimizers: Adams by name.
        pools: image pools by name.
        facts: whatever else the caller needs, JSON.
    """
    arrays = {
        f"{name}/{key}": parameter.asnumpy().copy()
        for name, parameters in _parameters(networks, optimizers).items()
        for key, parameter in parameters.items()
    }
    for name, pool in pools.items():
        if pool.images:
            arrays[f"{name}/images"] = np.stack(pool.images)
    version, keys, gauss = random.getstate()
    kind, numpy_keys, *numpy_rest = np.random.get_state()
    streams = {
        "python": [version, list(keys), gauss],
        "numpy": [kind, numpy_keys.tolist(), *numpy_rest],
        "mindspore": ms.get_rng_state().asnumpy().tolist(),
        "pools": {name: pool.rng.bit_generator.state for name, pool in pools.items()},
    }
    return TrainingState(arrays, {**facts, "random": streams})


def restore_state(state: TrainingState, networks: dict, optimizers: dict, pools: dict) -> None:
    """Give a freshly built training the state that `capture_state` copied."""
    for name, parameters in _parameters(networks, optimizers).items():
        for key, parameter in parameters.items():
            parameter.set_data(ms.Tensor(state.arrays[f"{name}/{key}"], parameter.dtype))
    streams = state.facts["random"]
    for name, pool in pools.items():
        pool.images = [image.copy() for image in state.arrays.get(f"{name}/images", ())]
        pool.rng.bit_generator.state = streams["pools"][name]
    version, keys, gauss = streams["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(streams["numpy"]))
    ms.set_rng_state(ms.Tensor(streams["mindspore"], ms.uint8))


def _parameters(networks, optimizers):
    """Every parameter that training changes, once: {cell's name: {key: parameter}}.

    Left out is the optimizers' list of learning rates, which follows from the configuration.
    """
    found = {name: dict(cell.parameters_and_names()) for name, cell in networks.items()}
    inside = {id(p) for parameters in found.values() for p in parameters.values()}
    for name, optimizer in optimizers.items():
        found[name] = {
            p.name: p
            for p in optimizer.get_parameters()
            if id(p) not in inside and not p.name.startswith("learning_rate")
        }
    return found


def save_state(state: TrainingState, folder, keep: int) -> Path:
    """Write a state as step_XXXXXXXX below `folder`, complete or not at all.

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
            _write_through(temporary / name, data)
        # A state of this step is a damaged one: a whole one would have been resumed from.
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        point_to_state(folder, state.facts["step"])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    # What is newer than this state was damaged, or the training would have gone on from it.
    states = sorted(folder.glob("step_*"))
    behind = [path for path in states if path <= final]
    for old in set(states) - set(behind[-keep:]):
        shutil.rmtree(old, ignore_errors=True)
    return final


def point_to_state(folder, step: int) -> None:
    """Let the file `latest` below `folder` name the state of a step."""
    with atomic_path(Path(folder) / "latest") as pointer:
        _write_through(pointer, _name(step).encode())


def _name(step):
    return f"step_{step:08d}"


def _write_through(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_state(folder) -> TrainingState:
    """The newest whole state below `folder`; damaged ones are passed over with a warning.

    Raises:
        UserError: there is none.
    """
    folder = Path(folder)
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            return _read_state(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("passed over %s: damaged (%s)", path, error)
    raise UserError(
        f"{folder}: holds no complete state to resume from; remove the run folder and start again"
    )


def _read_state(path):
    checksums = json.loads((path / "sha256.json").read_bytes())
    data = {name: (path / name).read_bytes() for name in ("arrays.safetensors", "facts.json")}
    for name, content in data.items():
        if hashlib.sha256(content).hexdigest() != checksums[name]:
            raise ValueError(f"{name} does not match its checksum")
    return TrainingState(load_arrays(data["arrays.safetensors"]), json.loads(data["facts.json"]))
