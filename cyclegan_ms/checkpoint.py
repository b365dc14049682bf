"""What a run leaves on disk: generators that describe themselves, written atomically."""

import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import UserError
from cyclegan_ms.networks import ResNetGenerator
from cyclegan_ms.tutorial import TutorialGenerator

__all__ = ["GeneratorSpec", "atomic_path", "load_generator", "read_generator", "save_generator"]

_KEY = "cyclegan_ms"


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

    def build(self) -> nn.Cell:
        """A generator of this description with fresh weights."""
        shape = (self.in_channels, self.out_channels, self.width, self.blocks)
        if self.variant == "tutorial":
            return TutorialGenerator(*shape, self.shared_blocks)
        return ResNetGenerator(*shape)


@contextmanager
def atomic_path(path):
    """A temporary name beside `path`, moved to `path` at the end, or removed after an error."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_generator(generator: nn.Cell, spec: GeneratorSpec, path) -> None:
    """Write a generator and its description to one file."""
    # Names by position in the network: a parameter's own name carries the prefix of its run.
    parameters = [{"name": n, "data": p} for n, p in generator.parameters_and_names()]
    with atomic_path(path) as temporary:
        note = {_KEY: json.dumps(asdict(spec), ensure_ascii=False)}
        ms.save_checkpoint(parameters, str(temporary), append_dict=note)


def read_generator(path) -> tuple[GeneratorSpec, dict]:
    """The description and the parameters (by name) in a file.

    Raises:
        UserError: the file is missing, damaged, or not a generator of this package.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        parameters = ms.load_checkpoint(str(path))
    except Exception as error:  # MindSpore raises ValueError, RuntimeError and others here
        raise UserError(f"{path}: not a MindSpore checkpoint, or damaged") from error
    if _KEY not in parameters:
        raise UserError(f"{path}: a checkpoint, but not a generator saved by cyclegan_ms")
    fields = json.loads(parameters.pop(_KEY))
    return GeneratorSpec(**{**fields, "domains": tuple(fields["domains"])}), parameters


def load_generator(path) -> tuple[nn.Cell, GeneratorSpec]:
    """A generator ready to use, and its description.

    Raises:
        UserError: the file is missing, damaged, or not a generator of this package.
    """
    spec, parameters = read_generator(path)
    generator = spec.build()
    missing, unexpected = ms.load_param_into_net(generator, parameters, strict_load=True)
    if missing or unexpected:
        raise UserError(f"{path}: its weights do not fit its own description; the file is damaged")
    return generator.set_train(False), spec
