"""Weights that a training begins with instead of fresh ones: where they are, and whether they fit.

Only networks are taken over: optimizers, image pools and schedule begin anew.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mindspore import Tensor

from cyclegan_ms.config import Config
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import GENERATOR_FILES, find_weights
from cyclegan_ms.training.cyclegan import Networks, generator_spec
from cyclegan_ms.training.state import load_state
from cyclegan_ms.weights.convert import NoDirection, names_in, unwrapped
from cyclegan_ms.weights.engines import read_engine
from cyclegan_ms.weights.torch_files import read_state_dict

__all__ = ["Start", "read_start"]

log = logging.getLogger(__name__)

_ENDINGS = (".ckpt", ".pth", ".pt", ".safetensors", ".onnx", ".mindir")
_NETWORKS = {"a2b": "g_ab", "b2a": "g_ba"}
# The discriminator of what a generator makes; the reference calls it by that: D_A is of G_A.
_JUDGES = {"a2b": "d_b", "b2a": "d_a"}
_JUDGING = ("d_a", "d_b", "features_a", "features_b")


@dataclass
class Start:
    """Weights to begin with."""

    source: Path
    networks: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """values of the networks that are there, such as g_ab or d_a, by the names of parameters"""
    found: list[str] = field(default_factory=list)
    """what they are, in words"""

    def fill(self, networks: Networks) -> None:
        """Give networks the weights, and say which of them start fresh."""
        log.info("starting from %s: %s", self.source, ", ".join(self.found))
        fresh = []
        for name, cell in networks.cells().items():
            parameters = dict(cell.parameters_and_names())
            values = self.networks.get(name, {})
            shapes = {key: array.shape for key, array in values.items()}
            if any(shapes.get(key) != p.shape for key, p in parameters.items()):
                fresh.append(f"{name} (of another form there)" if values else name)
                continue
            for key, parameter in parameters.items():
                parameter.set_data(Tensor(np.asarray(values[key], np.float32)))
        if fresh:
            log.info("fresh: %s", ", ".join(fresh))


def read_start(config: Config) -> Start | None:
    """Read what `train.init_from` names; None if that is nothing.

    Raises:
        UserError: nothing is there, or generators of other sizes than the configuration's.
    """
    if config.train.init_from is None:
        return None
    source = find_weights(config.train.init_from, "train.init_from").resolve()
    files = _generator_files(source, config.data.domains)
    if not files:
        raise UserError(
            f"train.init_from {source}: holds no generator; give a run folder, or one with "
            f"g_ab.ckpt and g_ba.ckpt, or latest_net_G_A.pth and latest_net_G_B.pth"
        )
    start = Start(source)
    for direction, path in files.items():
        try:
            spec, make = read_engine(path, direction or None)
        except NoDirection as error:
            raise UserError(
                f"train.init_from {path}: nothing tells its direction; put it into a folder, as "
                f"latest_net_G_A.pth (A to B) or latest_net_G_B.pth"
            ) from error
        _check_direction(spec, direction, config.data.domains, path)
        direction = direction or spec.direction
        _check_fits(spec, generator_spec(config, direction, 0), path)
        cell = make().to_mindspore()
        name = _NETWORKS[direction]
        start.networks[name] = {key: p.asnumpy() for key, p in cell.parameters_and_names()}
        start.found.append(f"{name} of epoch {spec.epoch}" if spec.epoch else name)
    if source.is_dir():
        _add_discriminators(start, files)
    return start


def _generator_files(source, domains):
    """Return the generators' files below a folder, by direction; a file alone has none yet."""
    if source.is_file():
        return {"": source}
    own = {way: source / name for way, name in GENERATOR_FILES.items() if (source / name).is_file()}
    if own:
        return own
    found: dict[str, list[Path]] = {}
    for path in sorted(source.iterdir()):
        if path.suffix.lower() in _ENDINGS and path.is_file():
            direction, named = names_in(path.stem)
            if named == tuple(domains[::-1]):
                direction = "b2a"
            if direction:
                found.setdefault(direction, []).append(path)
    files = {}
    for direction, paths in found.items():
        newest = [path for path in paths if "latest" in path.name] or paths
        if len(newest) > 1:
            names = ", ".join(path.name for path in newest[:4])
            raise UserError(
                f"train.init_from {source}: holds several generators {direction} ({names}); leave "
                f"one of them, or give a folder of its own"
            )
        files[direction] = newest[0]
    return files


def _check_direction(spec, direction, domains, path):
    """Raise UserError if a generator says that it goes the other way."""
    if direction and spec.direction != direction:
        raise UserError(f"train.init_from {path}: by its description a generator {spec.direction}")
    if list(spec.domains) == list(domains)[::-1]:
        raise UserError(
            f"train.init_from {path}: its domains are [{', '.join(spec.domains)}], the other way "
            f"round; give data.domains and the folders of A and B in that order"
        )


def _check_fits(spec, wanted, path):
    """Raise UserError if a generator has other sizes than the configuration asks for."""
    first, second = ("a", "b") if wanted.direction == "a2b" else ("b", "a")
    keys = {
        "model.variant": "variant",
        "model.upsample": "upsample",
        "model.width": "width",
        "model.blocks": "blocks",
        f"model.channels_{first}": "in_channels",
        f"model.channels_{second}": "out_channels",
    }
    has, asked = ({key: getattr(it, name) for key, name in keys.items()} for it in (spec, wanted))
    other = {key: value for key, value in has.items() if asked[key] != value}
    if other:
        listed = ", ".join(f"{key} {value}, not {asked[key]}" for key, value in other.items())
        flags = " ".join(f"--{key} {value}" for key, value in other.items())
        raise UserError(
            f"train.init_from {path}: its generator has {listed}; {flags} builds one like it"
        )
    if spec.shared_blocks != wanted.shared_blocks:
        raise UserError(f"train.init_from {path}: its residual blocks are not those of one block")


def _add_discriminators(start, files):
    """Add the discriminators beside the generators: a run's state has them, or PyTorch's files."""
    states = start.source / "checkpoints"
    if states.is_dir():
        try:
            state = load_state(states)
        except UserError:  # none that is whole
            return
        for name in _JUDGING:
            start.networks[name] = {
                key.removeprefix(f"{name}/"): array
                for key, array in state.arrays.items()
                if key.startswith(f"{name}/")
            }
        start.found.append(f"discriminators of step {state.facts['step']}")
        return
    for direction, path in files.items():
        judge = path.with_name(path.name.replace("_G_", "_D_"))
        if judge != path and judge.is_file():
            values = read_state_dict(judge)
            name = _JUDGES[direction]
            start.networks[name] = {unwrapped(key): array for key, array in values.items()}
            start.found.append(f"{name} of {judge.name}")
