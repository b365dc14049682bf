"""Generators in files that describe themselves."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.errors import UserError
from cyclegan_ms.files import atomic_path, check_readable
from cyclegan_ms.model.spec import GeneratorSpec

__all__ = [
    "METADATA",
    "build_generator",
    "load_generator",
    "read_checkpoint",
    "read_generator",
    "save_generator",
    "take_description",
]

METADATA = "cyclegan_ms"
"""Key of the description in a generator's file, of every kind."""


def save_generator(generator: nn.Cell, spec: GeneratorSpec, path, float16: bool = False) -> None:
    """Write a generator and its description to one file, perhaps with 16-bit floats."""
    # Names by position in the network: a parameter's own name carries the prefix of its run.
    parameters = [
        {"name": name, "data": ms.Tensor(p.asnumpy().astype(np.float16)) if float16 else p}
        for name, p in generator.parameters_and_names()
    ]
    with atomic_path(path) as temporary:
        note = {METADATA: spec.to_json()}
        written = temporary.with_suffix(".ckpt")  # MindSpore appends it to any other ending
        ms.save_checkpoint(parameters, str(written), append_dict=note)
        content = written.read_bytes()
        written.unlink()  # it is read-only, and for its owner alone
        temporary.write_bytes(content)


def read_checkpoint(path) -> dict:
    """Read the parameters (by name) and notes in a MindSpore checkpoint.

    Raises:
        UserError: the file is missing, damaged, or no checkpoint.
    """
    check_readable(path)
    with TemporaryDirectory() as folder:
        link = Path(folder) / "generator.ckpt"  # MindSpore reads no other ending, not even .CKPT
        link.symlink_to(Path(path).resolve())
        try:
            return ms.load_checkpoint(str(link))
        except Exception as error:  # MindSpore raises ValueError, RuntimeError and others here
            raise UserError(f"{path}: not a MindSpore checkpoint, or damaged") from error


def read_generator(path) -> tuple[GeneratorSpec, dict]:
    """Read the description and the parameters (by name) in a file.

    Raises:
        UserError: the file is missing, damaged, or not a generator of this package.
    """
    return take_description(read_checkpoint(path), path)


def take_description(stored: dict, path) -> tuple[GeneratorSpec, dict]:
    """Split what `read_checkpoint` read from a file into the description and the parameters.

    Raises:
        UserError: it is not a generator of this package.
    """
    if METADATA not in stored:
        raise UserError(f"{path}: a checkpoint, but not a generator saved by cyclegan_ms")
    return GeneratorSpec.from_json(stored.pop(METADATA), path), stored


def load_generator(path: str | Path) -> tuple[nn.Cell, GeneratorSpec]:
    """Load a generator, ready to use, and its description.

    Raises:
        UserError: the file is missing, damaged, or not a generator of this package.
    """
    spec, parameters = read_generator(path)
    return build_generator(spec, parameters, path), spec


def build_generator(spec: GeneratorSpec, parameters: dict, path) -> nn.Cell:
    """Build a generator from what `read_generator` read from the file `path`.

    Raises:
        UserError: the parameters are not those of the description.
    """
    spec.check_fits(sum(p.size for p in parameters.values() if isinstance(p, ms.Tensor)), path)
    generator = spec.build()
    parameters = {name: _widened(p) for name, p in parameters.items()}
    try:
        missing, unexpected = ms.load_param_into_net(generator, parameters, strict_load=True)
    except RuntimeError:  # a shape that does not fit
        missing = unexpected = True
    if missing or unexpected:
        raise UserError(f"{path}: its weights do not fit its own description; the file is damaged")
    return generator.set_train(False)


def _widened(parameter):
    """Return a parameter of 16-bit floats as one of 32."""
    if not isinstance(parameter, ms.Tensor) or parameter.dtype != ms.float16:
        return parameter
    return ms.Parameter(ms.Tensor(parameter.asnumpy().astype(np.float32)), parameter.name)
