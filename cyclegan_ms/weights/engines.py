"""What computes a generator: MindSpore from a checkpoint, a MindIR graph, or onnxruntime."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.device import quiet_mindspore
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import check_readable
from cyclegan_ms.model.kernels import kind_of
from cyclegan_ms.model.operators import Pictures, for_pictures
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import (
    METADATA,
    build_generator,
    read_checkpoint,
    take_description,
)
from cyclegan_ms.weights.convert import import_generator, is_torch

__all__ = [
    "Engine",
    "MindIREngine",
    "MindSporeEngine",
    "OnnxEngine",
    "load_engine",
    "onnx_session",
    "read_engine",
    "require_onnx",
]

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Computes a generator."""

    spec: GeneratorSpec

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Translate (N, C, H, W) float32 in [-1, 1], H and W multiples of 4 and at least 8."""

    def to_mindspore(self) -> nn.Cell:
        """Return the generator as a cell, for what wants its layers."""


def load_engine(path) -> Engine:
    """Load the engine for a generator's file.

    Args:
        path: our own checkpoint, an exported `.onnx` or `.mindir`, or a file of another program
            that `import_generator` takes.

    Raises:
        UserError: the file is missing, damaged or of another kind, or a package is missing.
    """
    return read_engine(path)[1]()


def read_engine(path, direction: str | None = None) -> tuple[GeneratorSpec, Callable[[], Engine]]:
    """Read a generator's file; return its description, and what makes the engine of it.

    Args:
        path: as for `load_engine`.
        direction: a2b or b2a, for a file of another program that does not tell.

    Raises:
        UserError: as `load_engine`.
    """
    path = Path(path)
    check_readable(path)
    ending = path.suffix.lower()
    if ending in (".onnx", ".mindir"):
        engine: Engine = OnnxEngine(path) if ending == ".onnx" else MindIREngine(path)
        return engine.spec, lambda: engine
    stored = {} if is_torch(path) else read_checkpoint(path)
    if METADATA not in stored:
        imported = import_generator(path, otherwise=direction)
        log.info("%s: %s", path, imported.found)
        return imported.spec, lambda: MindSporeEngine(imported.generator, imported.spec)
    spec, parameters = take_description(stored, path)
    return spec, lambda: MindSporeEngine(build_generator(spec, parameters, path), spec)


class MindSporeEngine:
    """A generator of this package, compiled once for all sizes, and again for a frequent one.

    Args:
        generator: takes and gives (N, C, H, W).
        spec: its description.
    """

    OFTEN = 30
    """After this many images of a size, the tenth of their time that a separate graph saves (a
    quarter at 64 pixels) makes up for the second or two that it takes to compile."""
    MOST = 8
    """Sizes that get a graph of their own: each keeps its memory, some 40 MB, for good."""
    LARGEST = 2**27
    """Values of a batch's first feature map, 0.5 GB, up to which it gets one: with a map of 2 GB a
    CPU does not come back."""

    def __init__(self, generator: nn.Cell, spec: GeneratorSpec):
        self.generator, self.spec = generator, spec
        self._runs: dict[Pictures, tuple[Callable, Callable]] = {"usual": _compile(generator)}
        self._counts: Counter[tuple[int, ...]] = Counter()
        self._compiled: set[tuple[int, ...]] = set()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with quiet_mindspore():  # it warns when a second generator is compiled
            run, run_size = self._for(kind_of(pixels[0, 0].size, self.spec.width))
            if self._is_frequent(pixels.shape):
                return run_size(ms.Tensor(pixels)).asnumpy()
            images = [run(ms.Tensor(image[None])).asnumpy() for image in pixels]
        return np.concatenate(images)

    def _for(self, kind: Pictures):
        """Return what computes pictures of a kind, with the same weights."""
        if kind not in self._runs:
            with for_pictures(kind):
                twin = self.spec.build()
            cells = dict(twin.cells_and_names())
            for name, cell in self.generator.cells_and_names():
                for attribute, parameter in cell._params.items():
                    setattr(cells[name], attribute, parameter)
            self._runs[kind] = _compile(twin)
        return self._runs[kind]

    def _is_frequent(self, shape):
        """Count the images of a batch, and say whether its shape is to have its own graph."""
        if shape[0] * shape[2] * shape[3] * self.spec.width > self.LARGEST:
            return False
        self._counts[shape] += shape[0]
        if self._counts[shape] > self.OFTEN and len(self._compiled) < self.MOST:
            self._compiled.add(shape)
        return shape in self._compiled

    def to_mindspore(self) -> nn.Cell:
        """Return the generator itself."""
        return self.generator


def _compile(generator):
    """Return a function compiled for one image of any size, and one compiled for each size."""

    @ms.jit
    @ms.enable_dynamic(x=ms.Tensor(shape=[1, None, None, None], dtype=ms.float32))
    def run(x):
        return generator(x)

    @ms.jit
    def run_size(x):
        return generator(x)

    return run, run_size


class MindIREngine:
    """A generator exported as MindIR."""

    def __init__(self, path):
        from mindspore.train.mind_ir_pb2 import ModelProto

        self.path = path
        model = ModelProto()
        try:
            model.ParseFromString(Path(path).read_bytes())
            info = model.user_info
            if not hasattr(info, "items"):  # a list of pairs before MindSpore 2.10
                info = {entry.key: entry.value for entry in info}
            note = info.get(METADATA)
        except Exception as error:  # protobuf's own exception
            raise UserError(f"{path}: not a MindIR file, or damaged") from error
        if note is None:
            raise UserError(f"{path}: a MindIR file, but not a generator exported by cyclegan_ms")
        self.spec = GeneratorSpec.from_json(note, path)
        try:
            self.graph = nn.GraphCell(ms.load(str(path)))
        except Exception as error:
            raise UserError(f"{path}: MindSpore {ms.__version__} cannot load it") from error

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.graph(ms.Tensor(pixels)).asnumpy()

    def to_mindspore(self) -> nn.Cell:
        """Rebuild the generator from the weights in the file."""
        # An exported network may have had a prefix in its names, such as g_ab.
        arrays = {name.removeprefix("g_ab.").removeprefix("g_ba."): value.asnumpy()
                  for name, value in self.graph.parameters_dict().items()}  # fmt: skip
        return _rebuilt(self.spec, arrays, self.path)


def _rebuilt(spec, arrays, path):
    """Build a generator of a description, with weights by name.

    Raises UserError if they are not the weights that it needs.
    """
    spec.check_fits(sum(array.size for array in arrays.values()), path)
    generator = spec.build()
    for name, parameter in generator.parameters_and_names():
        if name not in arrays or arrays[name].shape != parameter.shape:
            raise UserError(f"{path}: its weights do not fit its own description, such as {name}")
        parameter.set_data(ms.Tensor(arrays[name]))
    return generator.set_train(False)


def require_onnx():
    """Import and return the packages onnx and onnxruntime.

    Raises:
        UserError: they are not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "ONNX needs two more packages: pip install onnx onnxruntime 'numpy<2'"
        ) from error
    return onnx, onnxruntime


class OnnxEngine:
    """A generator exported as ONNX, run by onnxruntime."""

    def __init__(self, path):
        self.path = path
        self.session = onnx_session(path)
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA not in metadata:
            raise UserError(f"{path}: an ONNX file, but not a generator exported by cyclegan_ms")
        self.spec = GeneratorSpec.from_json(metadata[METADATA], path)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"image": pixels})[0]

    def to_mindspore(self) -> nn.Cell:
        """Rebuild the generator from the weights in the file."""
        onnx, _ = require_onnx()
        weights = onnx.load(self.path).graph.initializer
        arrays = {weight.name: onnx.numpy_helper.to_array(weight) for weight in weights}
        return _rebuilt(self.spec, arrays, self.path)


def onnx_session(path):
    """Open a file with onnxruntime.

    Raises:
        UserError: the file is damaged, or onnxruntime is not installed.
    """
    _, onnxruntime = require_onnx()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        on_cpu = ms.get_context("device_target") == "CPU"
        providers = ["CPUExecutionProvider"] if on_cpu else onnxruntime.get_available_providers()
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises a different class for every reason
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not an ONNX model, damaged, or too new ({reason})") from error
