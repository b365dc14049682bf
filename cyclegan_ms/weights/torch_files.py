"""Read arrays from PyTorch's files of weights, without PyTorch.

Nothing that a file stores is executed: pickles are read by an unpickler that knows tensors and
dictionaries of them, and refuses every other name.
"""

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from cyclegan_ms.errors import UserError

__all__ = ["read_state_dict"]


def read_state_dict(path) -> dict[str, np.ndarray]:
    """Read the arrays of a PyTorch state dict or a .safetensors file, by name.

    Raises:
        UserError: damaged, something else than a dictionary of tensors, or a name that an honest
            file would not hold.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path)
    except UserError:
        raise
    except _Refused as error:
        raise UserError(
            f"{path}: refused, its pickle asks for {error}; a file of weights has no use for that"
        ) from error
    except Exception as error:  # whatever a damaged archive or pickle may lead to
        raise UserError(f"{path}: not a PyTorch file of weights, or damaged") from error


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
}


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
        return np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, [s * step for s in self.strides]
        ).copy()


def _rebuild_tensor(storage, offset, shape, strides, *unused):
    if type(storage) is not _Storage:
        raise ValueError("not a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *unused):
    return tensor


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): name for name in _STORAGES},
}


_MOST = 10_000
"""Parts of a tuple, those of the tuples in it included; a tensor's has about ten."""


class _TensorUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Builds dictionaries, tuples, numbers, strings and `_Tensor`s, and refuses all else.

    The unpickler written in Python, for its operations can be watched: a few hundred bytes can
    nest a tuple in itself so often that comparing or printing it never ends.
    """

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def find_class(self, module, name):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, reference):
        kind, name, key, _, size = reference[:5]
        if [type(part) for part in (kind, name, key, size)] != [str, str, str, int]:
            raise ValueError("not a storage")
        if kind != "storage" or name not in _STORAGES or size < 0:
            raise ValueError("not a storage")
        return _Storage(name, key, size)

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


def _tensors(path, state):
    """Return the dictionary of tensors that a pickle held, alone or under `state_dict`."""
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, _Tensor) for v in state.values()):
        raise UserError(f"{path}: holds something else than a dictionary of tensors")
    if not all(type(name) is str for name in state):
        raise UserError(f"{path}: holds tensors under other names than words")
    return dict(state)


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
        tensors = _tensors(path, _TensorUnpickler(file).load())
        used = {tensor.storage for tensor in tensors.values()}
        kinds = {key: (np.dtype(_STORAGES[name]), n) for name, key, n in used}
        storages = {}
        for key in map(str, _TensorUnpickler(file).load()):
            (count,) = struct.unpack("<q", file.read(8))
            dtype, size = kinds[key]
            if count != size:
                raise ValueError("a storage's length is not as announced")
            data = file.read(count * dtype.itemsize)
            storages[key] = np.frombuffer(data, dtype, count)
    return {name: tensor.resolve(storages) for name, tensor in tensors.items()}
