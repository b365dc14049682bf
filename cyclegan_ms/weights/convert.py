"""Convert generators from the tutorial's checkpoints and PyTorch files, and back to PyTorch."""

import json
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

import mindspore as ms
from mindspore import nn

from cyclegan_ms.errors import UserError, program
from cyclegan_ms.files import atomic_path, check_readable
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import METADATA, load_generator, read_checkpoint
from cyclegan_ms.weights.torch_files import is_pytorch, is_safetensors, read_state_dict

__all__ = [
    "Imported",
    "NoDirection",
    "export_pytorch",
    "import_generator",
    "is_torch",
    "names_in",
    "unwrapped",
]


class NoDirection(UserError):
    """Nothing tells in which direction a generator translates."""


@dataclass
class Imported:
    """A generator found in a file, and what the file turned out to be."""

    generator: nn.Cell
    spec: GeneratorSpec
    found: str


def import_generator(
    path,
    direction: str | None = None,
    domains=None,
    blocks: int | None = None,
    otherwise: str | None = None,
    own: bool = False,
) -> Imported:
    """Read a generator from a file of another program, whatever its ending is.

    Args:
        path: a file of PyTorch or .safetensors with the reference's names, alone or among others,
            or a checkpoint saved by the tutorial's notebook.
        direction: a2b or b2a; None takes it from the file's content or name.
        domains: names of A and B; None takes them from a name such as horse2zebra.pth.
        blocks: how often a shared block is applied (the tutorial: 9), which a file does not say.
        otherwise: the direction where neither content nor name of the file tells it.
        own: whether a generator of this package will do, too.

    Raises:
        UserError: the file is damaged, holds something else, would have to be executed, or nothing
            tells its direction.
    """
    path = Path(path)
    check_readable(path)
    if own and not is_torch(path) and METADATA in read_checkpoint(path):
        generator, spec = load_generator(path)
        return Imported(generator, spec, f"{spec.name}, {spec.blocks} blocks, width {spec.width}")
    if is_torch(path):
        imported = _from_pytorch(path, direction or otherwise)
    else:
        imported = _from_tutorial(path, blocks)
    known, (named_direction, named_domains) = imported.spec.direction, names_in(path.stem)
    note = _safetensors_note(path) if is_safetensors(path) else {}
    found = note.get("direction") or known or named_direction or otherwise
    if not (direction or found):
        raise NoDirection(
            f"{path}: neither its content nor its name tells the direction; give --direction a2b "
            f"or b2a"
        )
    spec = replace(
        imported.spec,
        direction=direction or found,
        domains=tuple(domains or _noted_domains(note) or named_domains),
    )
    spec.check(f"{path}: cannot be converted so")
    return Imported(imported.generator, spec, imported.found)


def is_torch(path) -> bool:
    """Return whether a file is PyTorch's or .safetensors: by its content, else by its ending."""
    path = Path(path)
    return is_pytorch(path) or is_safetensors(path) or path.suffix.lower() != ".ckpt"


def _safetensors_note(path):
    """Read what `export_pytorch` noted in a file."""
    with safe_open(path, "np") as file:
        return file.metadata() or {}


def _noted_domains(note):
    text = note.get("domains", "")
    if not text.startswith("["):  # version 0.2.0 put a space between them
        return text.split()
    try:
        return json.loads(text)
    except ValueError:
        return []


def _pattern(source, target):
    """Return a pattern of names that say: from one of these letters to one of those."""
    generator = r"(?:^|_)(?:net_?)?(?:rg|g|gen|generator)_?"  # and behind it the letters
    both = rf"[{source}]_?(?:2|to){{}}_?[{target}]"
    ways = (generator + both.format("?"), generator + source[0], "(?:^|_)" + both.format(""))
    return rf"(?:{'|'.join(ways)})(?:_|$)"


_DIRECTIONS = {"a2b": _pattern("ax", "by"), "b2a": _pattern("by", "ax")}


def names_in(text: str) -> tuple[str, tuple[str, str]]:
    """Return the direction, or "", and the domains that a file's or a network's name tells.

    Knows the conventions of the published CycleGAN packages: latest_net_G_B, netG_B2A, G_BA_100,
    generator_b2a, G_YtoX, horse2zebra.
    """
    words = re.sub(r"[^a-z0-9]+", "_", text.lower())
    told = [way for way, pattern in _DIRECTIONS.items() if re.search(pattern, words)]
    if len(told) == 1:
        return told[0], ("a", "b")
    domains = re.fullmatch(r"([A-Za-z]{2,})2([A-Za-z]{2,})(?:_pretrained)?", text)
    return ("a2b", (domains[1], domains[2])) if domains else ("", ("a", "b"))


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
    spec.check_fits(sum(value.size for value in values.values()), path)
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
    plain = {unwrapped(name): name for name in values}
    if any(re.search(r"(^|\.)model\.model\.(0|1\.model)\.", name) for name in plain):
        return "a U-Net generator"
    if any("net_d_" in name for name in plain):
        return "a discriminator of the tutorial's notebook"
    first = values[plain["model.0.weight"]] if "model.0.weight" in plain else None
    if first is not None and first.shape[2:] == (4, 4):
        return "a PatchGAN discriminator"
    tops = list(dict.fromkeys(name.split(".")[0] for name in plain))
    if len(tops) > 1 and any("." in name for name in plain):
        return f"holds {len(values)} parameters below {', '.join(tops[:6])}, such as {min(plain)}"
    return f"holds {len(values)} parameters such as {min(plain)}"


# ------------------------------------------------------------------------------- PyTorch files


def _from_pytorch(path, direction):
    stored = read_state_dict(path)
    prefix, values, notes = _chosen(path, stored, direction)
    values, more = _plain(path, values)
    numbers = {int(m[1]) for m in (re.match(r"model\.(\d+)\.conv_block\.", n) for n in values) if m}
    stem, last = values["model.1.weight"], values.get(f"model.{10 + len(numbers) + 7}.weight")
    if last is None or numbers != set(range(10, 10 + len(numbers))):
        raise UserError(f"{path}: {_describe(stored)}, not a whole ResNet generator")
    spec = GeneratorSpec(
        direction=names_in(prefix)[0],
        domains=("a", "b"),
        in_channels=stem.shape[1],
        out_channels=last.shape[0],
        width=stem.shape[0],
        blocks=len(numbers),
    )
    spec.check_fits(sum(value.size for value in values.values()), path)
    generator = spec.build()
    _check_names(path, values, {name for name, _ in generator.parameters_and_names()})
    found = ["PyTorch ResNet generator", f"{spec.blocks} blocks, width {spec.width}", *notes, *more]
    return Imported(_fill(generator, values, path), spec, ", ".join(found))


_WRAPPERS = {"module": "saved from several GPUs", "_orig_mod": "saved from torch.compile"}
"""Parts of names that PyTorch puts around a network, in any order."""

_CONTAINERS = {"state_dict", "model_state_dict", "state", "model", "net", "network", "weights",
               "params", "params_ema", "ema", "module"}  # fmt: skip


def unwrapped(name: str) -> str:
    """Return the name of a PyTorch parameter without what wraps its network."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _chosen(path, stored, direction):
    """Pick the generator among the networks in a file.

    Returns what stands in front of its names, its arrays by the reference's names, and notes.
    Raises UserError if there is none, or several and `direction` does not tell which.
    """
    notes = [
        words
        for part, words in _WRAPPERS.items()
        if any(part in name.split(".") for name in stored)
    ]
    networks: dict[str, dict[str, np.ndarray]] = {}
    for name, array in stored.items():
        plain = unwrapped(name)
        match = re.fullmatch(r"(.*?)(?:model\.)?(\d+\..*)", plain)
        prefix, rest = match.groups() if match else ("", plain)
        networks.setdefault(prefix, {})[f"model.{rest}"] = array
    generators = {prefix: arrays for prefix, arrays in networks.items() if _is_generator(arrays)}
    if not generators:
        raise UserError(f"{path}: {_describe(stored)}, not a ResNet generator")
    averaged = {prefix for prefix in generators if "ema" in re.split(r"[._]", prefix.lower())}
    if averaged and len(averaged) < len(generators):
        generators = {prefix: generators[prefix] for prefix in averaged}
        notes.append("its averaged weights")
    if len(generators) > 1 and direction:
        fitting = {p: arrays for p, arrays in generators.items() if names_in(p)[0] == direction}
        generators = fitting if len(fitting) == 1 else generators
    if len(generators) > 1:
        names = ", ".join(sorted(prefix.rstrip(".") for prefix in generators))
        ways = {names_in(prefix)[0] for prefix in generators}
        advice = "--direction a2b or b2a takes one" if ways == {"a2b", "b2a"} else "save one alone"
        raise UserError(f"{path}: holds the generators {names}; {advice}")
    ((prefix, values),) = generators.items()
    shown = ".".join(part for part in prefix.split(".") if part and part not in _CONTAINERS)
    return prefix, values, notes + ([f"called {shown}"] if shown else [])


def _is_generator(arrays):
    stem = arrays.get("model.1.weight")
    blocks = any(".conv_block." in name for name in arrays)
    return stem is not None and stem.shape[2:] == (7, 7) and blocks


def _plain(path, values):
    """Return a generator's arrays without what translation does not use, and notes.

    Raises UserError if its normalisation or padding is of a kind that this package does not have.
    """
    notes = []
    # Older files hold running statistics, which instance normalisation never used.
    running = ("running_mean", "running_var", "num_batches_tracked")
    tracked = [name for name in values if name.endswith(running)]
    values = {name: value for name, value in values.items() if name not in tracked}
    # Where dropout stands between them, the second convolution of a block is number 6, not 5.
    if any(".conv_block.6.weight" in name and value.ndim == 4 for name, value in values.items()):
        renumbered = {"conv_block.6.": "conv_block.5.", "conv_block.7.": "conv_block.6."}
        for theirs, ours in renumbered.items():
            values = {name.replace(theirs, ours): value for name, value in values.items()}
        notes.append("dropout, which only training uses, left out")
    if any(".conv_block.0." in name for name in values):
        raise UserError(
            f"{path}: a ResNet generator that pads with zeros; only reflection is supported"
        )
    scales = [n for n, value in values.items() if n.endswith(".weight") and value.ndim == 1]
    affine = {name: value for n in scales for name, value in values.items()
              if name in (n, n.removesuffix("weight") + "bias")}  # fmt: skip
    if affine and tracked:
        raise UserError(
            f"{path}: a ResNet generator with batch normalisation; only instance normalisation "
            f"without parameters is supported"
        )
    if any((value != name.endswith(".weight")).any() for name, value in affine.items()):
        raise UserError(
            f"{path}: a ResNet generator whose instance normalisation has its own scale and shift; "
            f"only that without parameters is supported"
        )
    notes += ["unused running statistics left out"] if tracked else []
    notes += ["scale 1 and shift 0 of its normalisation left out"] if affine else []
    return {name: value for name, value in values.items() if name not in affine}, notes


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
    if spec.upsample != "transposed":
        raise UserError(
            f"{checkpoint}: model.upsample {spec.upsample} has no counterpart in the PyTorch "
            f"reference; export.py writes it as ONNX"
        )
    values = {name: p.asnumpy() for name, p in generator.parameters_and_names()}
    note = {"direction": spec.direction, "domains": json.dumps(spec.domains)}
    ending = path.suffix.lower()
    if ending == ".safetensors":
        with atomic_path(path) as temporary:
            # Not by `save_file`, which makes files for their owner alone.
            temporary.write_bytes(save(values, note))
    elif ending in (".pth", ".pt"):
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
