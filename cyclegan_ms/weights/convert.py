"""Convert generators from the tutorial's checkpoints and PyTorch files, and back to PyTorch."""

import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.errors import UserError, program
from cyclegan_ms.files import atomic_path, check_readable
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import METADATA, load_generator, read_checkpoint
from cyclegan_ms.weights.torch_files import read_state_dict

__all__ = ["Imported", "export_pytorch", "import_generator"]


@dataclass
class Imported:
    """A generator found in a file, and what the file turned out to be."""

    generator: nn.Cell
    spec: GeneratorSpec
    found: str


def import_generator(
    path, direction: str | None = None, domains=None, blocks: int | None = None
) -> Imported:
    """Read a generator from a file of another program.

    Args:
        path: a PyTorch state dict (.pth, .pt), a .safetensors file with the same names, or a
            checkpoint saved by the tutorial's notebook (.ckpt).
        direction: a2b or b2a; None takes it from the file's content or name.
        domains: names of A and B; None takes them from a name such as horse2zebra.pth.
        blocks: how often a shared block is applied (the tutorial: 9), which a file does not say.

    Raises:
        UserError: the file is damaged, holds something else, or would have to be executed.
    """
    path = Path(path)
    check_readable(path)
    imported = _from_tutorial(path, blocks) if path.suffix == ".ckpt" else _from_pytorch(path)
    guessed_direction, guessed_domains = _guess(path)
    if path.suffix == ".safetensors":
        note = _safetensors_note(path)
        guessed_direction = note.get("direction", guessed_direction)
        guessed_domains = note.get("domains", " ".join(guessed_domains)).split()
    spec = replace(
        imported.spec,
        direction=direction or imported.spec.direction or guessed_direction,
        domains=tuple(domains or guessed_domains),
    )
    return Imported(imported.generator, spec, imported.found)


def _safetensors_note(path):
    """Read what `export_pytorch` noted in a file."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return file.metadata() or {}


def _guess(path):
    """Guess direction and domains from a file's name."""
    words = re.fullmatch(r"([A-Za-z]+)2([A-Za-z]+)(_pretrained)?", path.stem)
    if words:
        return "a2b", (words[1], words[2])
    backwards = re.search(r"net_G_B$|(^|_)g_b(a|_|$)", path.stem)
    return ("b2a" if backwards else "a2b"), ("a", "b")


def _fill(generator, values, path):
    """Give a generator the values of the same names."""
    for name, parameter in generator.parameters_and_names():
        if name in values:
            if values[name].shape != parameter.shape:
                raise UserError(
                    f"{path}: {name} has shape {values[name].shape} instead of {parameter.shape}"
                )
            parameter.set_data(ms.Tensor(np.ascontiguousarray(values[name], np.float32)))
    return generator.set_train(False)


# ------------------------------------------------------------------ the tutorial's checkpoints


def _from_tutorial(path, blocks):
    stored = read_checkpoint(path)
    if METADATA in stored:
        raise UserError(
            f"{path}: already a generator of cyclegan_ms; {program('infer')} takes it as it is"
        )
    values = {n: p.asnumpy() for n, p in stored.items() if isinstance(p, ms.Parameter)}
    prefixes = {name.split(".")[0] for name in values}
    direction = {"net_rg_a": "a2b", "net_rg_b": "b2a"}.get(min(prefixes, default=""))
    if direction and len(prefixes) == 1:
        values = {name.split(".", 1)[1]: value for name, value in values.items()}
    if not {"conv_in.features.0.weight", "conv_out.weight"} <= set(values):
        what = _describe(values)
        raise UserError(f"{path}: {what}, not a generator of the tutorial's notebook")

    numbers = {int(n.split(".")[1]) for n in values if n.startswith("residuals.")}
    shared = numbers == {0}
    if numbers != set(range(len(numbers))) or not numbers:
        raise UserError(f"{path}: the residual blocks {sorted(numbers)} do not count from 0")
    width, in_channels = values["conv_in.features.0.weight"].shape[:2]
    spec = GeneratorSpec(
        direction=direction or "",
        domains=("a", "b"),
        in_channels=in_channels,
        out_channels=values["conv_out.weight"].shape[0],
        width=width,
        blocks=(blocks or 9) if shared else len(numbers),
        variant="tutorial",
        shared_blocks=shared,
    )
    generator = spec.build()
    needed = {n for n, p in generator.parameters_and_names() if p.requires_grad}
    fixed = {n for n, p in generator.parameters_and_names()} - needed
    _check_names(path, values, needed, fixed)
    statistics = [
        np.abs(values[name] - name.endswith("variance")).max()
        for name in values
        if name.endswith(("moving_mean", "moving_variance"))
    ]
    if not statistics:
        norm = "no moving statistics stored: its normalisation is the identity"
    elif max(statistics) == 0:
        norm = "moving statistics never trained: its normalisation is the identity"
    else:
        norm = "trained moving statistics, which its normalisation uses"
    count = f"one block applied {spec.blocks} times" if shared else f"{spec.blocks} blocks"
    way = f"direction {direction}" if direction else "direction not stored"
    found = f"tutorial variant, {count}, width {width}, {way}, {norm}"
    return Imported(_fill(generator, values, path), spec, found)


def _check_names(path, values, needed, allowed=frozenset()):
    missing, unknown = sorted(needed - set(values)), sorted(set(values) - needed - allowed)
    if missing:
        raise UserError(f"{path}: {len(missing)} parameters are missing, such as {missing[0]}")
    if unknown:
        raise UserError(f"{path}: {len(unknown)} parameters are unknown, such as {unknown[0]}")


def _describe(values):
    """Say in a few words what a set of parameters most likely is."""
    if not values:
        return "holds no parameters"
    names = set(values)
    if any(name.startswith("model.model.") for name in names):
        return "a U-Net generator"
    if any("net_d_" in name for name in names):
        return "a discriminator of the tutorial's notebook"
    first = values.get("model.0.weight")
    if first is not None and first.shape[2:] == (4, 4):
        return "a PatchGAN discriminator"
    return f"holds {len(values)} parameters such as {min(names)}"


# ------------------------------------------------------------------------------- PyTorch files


def _from_pytorch(path):
    values = read_state_dict(path)
    prefixed = bool(values) and all(name.startswith("module.") for name in values)
    if prefixed:
        values = {name.removeprefix("module."): value for name, value in values.items()}
    # Older files hold running statistics, which instance normalisation never used.
    running = ("running_mean", "running_var", "num_batches_tracked")
    tracked = [name for name in values if name.endswith(running)]
    values = {name: value for name, value in values.items() if name not in tracked}

    numbers = {int(m[1]) for m in (re.match(r"model\.(\d+)\.conv_block\.", n) for n in values) if m}
    stem = values.get("model.1.weight")
    if not numbers or stem is None or stem.shape[2:] != (7, 7):
        raise UserError(f"{path}: {_describe(values)}, not a ResNet generator")
    affine = values.get("model.2.weight")
    if affine is not None and affine.ndim == 1:
        raise UserError(
            f"{path}: a ResNet generator with batch normalisation; only instance normalisation "
            f"without parameters is supported"
        )
    last = values.get(f"model.{10 + len(numbers) + 7}.weight")
    if last is None or numbers != set(range(10, 10 + len(numbers))):
        raise UserError(f"{path}: {_describe(values)}, not a whole ResNet generator")
    spec = GeneratorSpec(
        direction="",
        domains=("a", "b"),
        in_channels=stem.shape[1],
        out_channels=last.shape[0],
        width=stem.shape[0],
        blocks=len(numbers),
    )
    generator = spec.build()
    _check_names(path, values, {name for name, _ in generator.parameters_and_names()})
    notes = ["saved from several GPUs"] if prefixed else []
    notes += ["unused running statistics left out"] if tracked else []
    found = ", ".join(
        ["PyTorch ResNet generator", f"{spec.blocks} blocks, width {spec.width}", *notes]
    )
    return Imported(_fill(generator, values, path), spec, found)


# ------------------------------------------------------------------------------ and back again


def export_pytorch(checkpoint, path) -> GeneratorSpec:
    """Write a generator of this package for PyTorch: a state dict with the reference's names.

    Args:
        checkpoint: a generator's file.
        path: `.safetensors`, or `.pth`, which needs PyTorch (`pip install torch`).

    Raises:
        UserError: of the tutorial variant, another ending, a file in the way, PyTorch is missing.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} exists already; nothing is overwritten")
    generator, spec = load_generator(checkpoint)
    if spec.variant != "paper":
        raise UserError(f"{checkpoint}: the tutorial variant has no counterpart in PyTorch")
    values = {name: p.asnumpy() for name, p in generator.parameters_and_names()}
    note = {"direction": spec.direction, "domains": " ".join(spec.domains)}
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        with atomic_path(path) as temporary:
            save_file(values, temporary, note)
    elif path.suffix in (".pth", ".pt"):
        try:
            import torch
        except ImportError as error:
            raise UserError(
                f"{path}: writing a .pth file needs PyTorch (pip install torch); "
                f"a .safetensors file does not"
            ) from error
        state = OrderedDict((name, torch.from_numpy(v.copy())) for name, v in values.items())
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    else:
        raise UserError(f"{path}: the ending must be .safetensors, .pth or .pt")
    return spec
