"""Read arrays from PyTorch's files of weights, without PyTorch.

Nothing that a file stores is executed: pickles are read by an unpickler that knows tensors and
dictionaries of them, puts an object that does nothing in the place of a few others that trainers
store beside the weights, and refuses every other name.
"""

import math
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from safetensors import deserialize

from cyclegan_ms.errors import UserError

__all__ = ["is_pytorch", "is_safetensors", "read_state_dict"]


def read_state_dict(path) -> dict[str, np.ndarray]:
    """Read the arrays of a PyTorch file or a .safetensors file, by name.

    The names of nested dictionaries are joined by dots, `netG_A.model.1.weight`. Whatever is no
    tensor is passed over. bfloat16 becomes float32.

    Raises:
        UserError: damaged, no tensors in it, or a name that an honest file would not hold.
    """
    path = Path(path)
    try:
        if is_safetensors(path):
            return _read_safetensors(path)
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path)
    except UserError:
        raise
    except _Refused as error:
        raise UserError(
            f"{path}: refused, its pickle asks for {error}; a file of weights has no use for that "
            f"(in PyTorch, torch.save(model.state_dict(), FILE) writes one)"
        ) from error
    except Exception as error:  # whatever a damaged archive or pickle may lead to
        raise UserError(
            f"{path}: no file of weights (.ckpt, .pth, .pt, .safetensors), or damaged"
        ) from error


def is_safetensors(path) -> bool:
    """Return whether a file begins as a .safetensors file does: a length, and a header in JSON."""
    with open(path, "rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= Path(path).stat().st_size


def is_pytorch(path) -> bool:
    """Return whether a file begins as one of PyTorch does: as an archive or a pickle."""
    with open(path, "rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80"


def _read_safetensors(path):
    arrays = {}
    for name, entry in deserialize(path.read_bytes()):
        kind, data = entry["dtype"], entry["data"]
        if kind == "BF16":
            values = _widened(np.frombuffer(data, np.uint16))
        else:
            values = np.frombuffer(data, _SAFETENSORS[kind])
        arrays[name] = values.reshape(entry["shape"])
    return arrays


def _widened(bits):
    """Turn the bits of bfloat16, the upper half of those of float32, into float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class _Refused(Exception):
    """A pickle asked for something that is not a tensor."""


# Names only: a pickle could call a NumPy type to smuggle in numbers that overflow.
_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "BFloat16Storage": np.uint16,  # its bits
}
_SAFETENSORS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class _Storage(NamedTuple):
    """Where the values of tensors are."""

    name: str
    key: str
    size: int


@dataclass
class _Tensor:
    """A view of a storage that may be read later: legacy files keep the bytes at the end."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple

    def resolve(self, storages):
        data = storages[self.storage.key]
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor's layout is not made of plain numbers")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if len(self.shape) != len(self.strides) or math.prod(self.shape) > data.size:
            raise ValueError("a tensor is larger than its storage")
        if 0 not in self.shape and last >= data.size:
            raise ValueError("a tensor lies outside its storage")
        step = data.itemsize
        values = np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, [s * step for s in self.strides]
        ).copy()
        return _widened(values) if self.storage.name == "BFloat16Storage" else values


def _rebuild_tensor(storage, offset, shape, strides, *unused):
    if type(storage) is not _Storage:
        raise ValueError("not a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *unused):
    return tensor


def _rebuild_from_type(rebuild, kind, arguments, *unused):
    if rebuild not in (_rebuild_tensor, _rebuild_parameter):
        raise ValueError("not a tensor")
    return rebuild(*arguments)


class _Inert:
    """Stands for an object that nobody needs; does nothing with what a pickle gives it."""

    def __new__(cls, *unused, **unused_too):
        return super().__new__(cls)

    def __init__(self, *unused, **unused_too):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    **{("torch", name): name for name in _STORAGES},
}
# What trainers store beside the weights: settings, paths, scores, the state of their loops.
_HARMLESS = re.compile(
    r"(argparse|collections|pathlib|datetime|numpy|numpy\._?core\.multiarray|_codecs|omegaconf"
    r"|torch|torch\.nn\.parameter|torch\.torch_version)\."
    r"(Namespace|defaultdict|Counter|deque|\w*Path|datetime|timedelta|dtype|scalar|ndarray"
    r"|_reconstruct|encode|device|Size|Parameter|TorchVersion|b?float\d*|int\d*|uint8|long|bool)"
    r"|(lightning|pytorch_lightning|lightning_fabric|omegaconf)(\.\w+)*\.\w+"
    r"|(builtins|__builtin__)\.(set|frozenset|list|dict|tuple|int|float|complex|bool|str|bytearray"
    r"|slice|range)"
)


_MOST = 10_000
"""Parts of a tuple or a dictionary, with those of others in it; a tensor's tuple has about ten."""


class _TensorUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Builds dictionaries, tuples, numbers, strings and `_Tensor`s, and refuses all else.

    The unpickler written in Python, for its operations can be watched: a few hundred bytes can
    nest a tuple in itself so often that comparing or printing it never ends.
    """

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def find_class(self, module, name):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if _HARMLESS.fullmatch(f"{module}.{name}"):
            return _Inert
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, reference):
        kind, name, key, _, size = reference[:5]
        if [type(part) for part in (kind, name, key, size)] != [str, str, str, int]:
            raise ValueError("not a storage")
        if kind != "storage" or name not in _STORAGES or size < 0:
            raise ValueError("not a storage")
        found = _Storage(name, key, size)
        self.__dict__.setdefault("storages", {})[key] = found
        return found

    def _weigh(self):
        """Refuse the tuple on top of the stack if it unfolds to too many parts."""
        weights = self.__dict__.setdefault("weights", {})
        made = self.stack[-1]
        # With the tuple itself: while it lives, no other object has its id.
        weight = sum(weights.get(id(part), (1,))[0] for part in made) + 1
        weights[id(made)] = (weight, made)
        if weight > _MOST:
            raise ValueError("a tuple unfolds to too many parts")


def _watched(operation):
    def load(self):
        operation(self)
        self._weigh()

    return load


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _TensorUnpickler.dispatch[_code[0]] = _watched(_TensorUnpickler.dispatch[_code[0]])
# It makes room for as many bytes as the file says, before it looks whether they are there.
del _TensorUnpickler.dispatch[pickle.BYTEARRAY8[0]]


def _tensors(path, state):
    """Return the tensors in a dictionary and in those nested in it, names joined by dots."""
    found: dict[str, _Tensor] = {}
    todo, seen = [("", state)] if type(state) in (dict, OrderedDict) else [], 0
    while todo:
        prefix, container = todo.pop(0)
        seen += len(container)
        if seen > _MOST:
            raise ValueError("dictionaries unfold to too many names")
        for name, value in container.items():
            if type(name) is str and isinstance(value, _Tensor):
                found[prefix + name] = value
            elif type(name) is str and type(value) in (dict, OrderedDict):
                todo.append((f"{prefix}{name}.", value))
    if not found:
        keys = [k for k in state if type(k) is str] if isinstance(state, dict) else []
        what = f"only {', '.join(key[:40] for key in keys[:8])}" if keys else "something else"
        raise UserError(f"{path}: holds {what}, and no dictionary of tensors")
    return found


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        # PyTorch stores without compression; a file that unfolds to many times itself is a trap.
        entries, most = archive.infolist(), 2 * Path(path).stat().st_size + 2**20
        if sum(entry.file_size for entry in entries) > most:
            raise ValueError("unpacked it is far larger than itself")
        names = archive.namelist()
        pickled = next(name for name in names if name.endswith("data.pkl"))
        root = pickled.removesuffix("data.pkl")
        with archive.open(pickled) as file:
            tensors = _tensors(path, _TensorUnpickler(file).load())
        storages = {}
        for name, key, size in {tensor.storage for tensor in tensors.values()}:
            entry = archive.getinfo(f"{root}data/{key}")
            dtype = np.dtype(_STORAGES[name])
            if entry.file_size != size * dtype.itemsize:
                raise ValueError("a storage's length is not as announced")
            storages[key] = np.frombuffer(archive.read(entry), dtype)
    return {name: tensor.resolve(storages) for name, tensor in tensors.items()}


def _read_legacy(path):
    """Read the format of PyTorch before 1.6.

    Pickles of a magic number, a version, facts about the system, the state and the storages' keys,
    and then each storage's length and bytes.
    """
    with open(path, "rb") as file:
        if _TensorUnpickler(file).load() != 0x1950A86A20F9469CFC6C:
            raise ValueError("no magic number")
        _TensorUnpickler(file).load()
        _TensorUnpickler(file).load()
        unpickler = _TensorUnpickler(file)
        tensors = _tensors(path, unpickler.load())
        stored = vars(unpickler).get("storages", {})
        kinds = {key: (np.dtype(_STORAGES[name]), n) for name, key, n in stored.values()}
        storages = {}
        for key in map(str, _TensorUnpickler(file).load()):
            (count,) = struct.unpack("<q", file.read(8))
            dtype, size = kinds[key]
            if count != size:
                raise ValueError("a storage's length is not as announced")
            data = file.read(count * dtype.itemsize)
            storages[key] = np.frombuffer(data, dtype, count)
    return {name: tensor.resolve(storages) for name, tensor in tensors.items()}
