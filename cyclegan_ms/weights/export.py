"""Write generators as MindIR and ONNX, for images of any size, and check them before keeping."""

import re
import tempfile
import zlib
from pathlib import Path

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.errors import UserError
from cyclegan_ms.files import atomic_path, temporary_folder
from cyclegan_ms.model.layers import Fork, Join, Layer, layers_of
from cyclegan_ms.model.operators import plain_operators
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import METADATA, build_generator
from cyclegan_ms.weights.engines import Engine, MindIREngine, OnnxEngine, require_onnx

__all__ = ["TOLERANCE", "export_generator", "largest_difference"]

TOLERANCE = 1e-4
"""Largest difference to MindSpore that an exported generator may show, in [-1, 1]."""

_OPSET = 18
_SHAPES = ((1, 64, 64), (2, 72, 100), (3, 128, 96))


def export_generator(generator: nn.Cell, spec: GeneratorSpec, path, kind: str) -> float:
    """Write a generator to a file, and compare what it computes there with MindSpore.

    Args:
        generator: the network.
        spec: its description, which goes into the file's metadata.
        path: the file; its ending must be `.mindir` or `.onnx`.
        kind: `mindir` or `onnx`.

    Returns the largest difference over three sizes and numbers of images.

    Raises:
        UserError: the ending does not fit, packages are missing, the file cannot be written, or the
            exported generator computes something else; the file is not kept then.
    """
    path = Path(path)
    if path.suffix != f".{kind}":
        raise UserError(f"{path}: a file of --format {kind} must end in .{kind}")
    if kind == "onnx":
        require_onnx()
    write, engine = (_write_onnx, OnnxEngine) if kind == "onnx" else (_write_mindir, MindIREngine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            write(generator, spec, temporary)
            difference = largest_difference(generator, engine(temporary))
            if not difference <= TOLERANCE:
                raise UserError(
                    f"{path} was not kept: it differs from MindSpore by {difference:.2g}"
                )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    return difference


def largest_difference(generator: nn.Cell, engine: Engine) -> float:
    """Return the largest difference of outputs in [-1, 1] between a generator and an engine."""
    rng = np.random.default_rng(0)
    channels = engine.spec.in_channels
    worst = 0.0
    for n, height, width in _SHAPES:
        x = rng.uniform(-1, 1, (n, channels, height, width)).astype(np.float32)
        expected = generator(ms.Tensor(x)).asnumpy()
        difference = np.abs(engine(x) - expected).max()
        worst = difference if np.isnan(difference) else max(worst, float(difference))
    return worst


# ----------------------------------------------------------------------------------- MindIR


def _write_mindir(generator, spec, path):
    from mindspore.train.mind_ir_pb2 import ModelProto

    with plain_operators():  # the file may run where CPU's own forms are slow, or unknown
        plain = build_generator(spec, dict(generator.parameters_and_names()), path)
    anything = ms.Tensor(shape=[None, spec.in_channels, None, None], dtype=ms.float32)
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)  # the exporter wants it
    model = ModelProto()
    # The exporter refuses paths with spaces, `+`, `=` or letters beyond ASCII.
    with temporary_folder(_plain_folder()) as folder:
        file = folder / "g.mindir"
        try:
            ms.export(plain, anything, file_name=str(file), file_format="MINDIR")
        finally:
            ms.set_context(mode=mode)
        model.ParseFromString(file.read_bytes())
    if hasattr(model.user_info, "add"):  # a list of pairs before MindSpore 2.10
        model.user_info.add(key=METADATA, value=spec.to_json())
    else:
        model.user_info[METADATA] = spec.to_json()
    path.write_bytes(model.SerializeToString())


def _plain_folder():
    """Return a folder for temporary files with a path that MindSpore's exporter accepts."""
    usual = tempfile.gettempdir()
    return usual if re.fullmatch(r"[\w./-]+", usual, re.ASCII) else "/tmp"


# ------------------------------------------------------------------------------------- ONNX


def _write_onnx(generator, spec, path):
    onnx, _ = require_onnx()
    graph = _Graph(onnx, generator)
    graph.chain(layers_of(generator), "image")
    graph.nodes[-1].output[0] = "translated"
    sides = {"image": spec.in_channels, "translated": spec.out_channels}
    image, translated = (
        onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["batch", channels, "height", "width"]
        )
        for name, channels in sides.items()
    )
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, spec.name, [image], [translated], graph.weights),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        producer_name="cyclegan_ms",
        ir_version=9,
    )
    onnx.helper.set_model_props(
        model,
        {
            METADATA: spec.to_json(),
            "direction": spec.name,
            "value_range": "input and output float32 in [-1, 1], NCHW, RGB; "
            "height and width multiples of 4, at least 8",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


class _Graph:
    """The nodes and weights of an ONNX graph, layer by layer.

    MindSpore's own exporter cannot write reflection padding.
    """

    def __init__(self, onnx, generator):
        self.onnx = onnx
        self.names = {id(p): name for name, p in generator.parameters_and_names()}
        self.nodes: list = []
        self.known: dict = {}

    @property
    def weights(self):
        """All initializers; a parameter that is used twice is there once."""
        return list(self.known.values())

    def chain(self, layers: list[Layer], x: str) -> str:
        """Add layers, one after the other; return the name of the output."""
        remembered = []
        for layer in layers:
            if type(layer) is Fork:
                remembered.append(x)
            elif type(layer) is Join:
                x = self.node("Add", [remembered.pop(), x])
            else:
                x = layer.to_onnx(self, x)
        return x

    def node(self, kind: str, inputs: list[str], **attributes) -> str:
        """Add a node and return the name of its output."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, parameter: ms.Parameter) -> str:
        """Return the name of a parameter, added under its name in the generator."""
        return self._keep(self.names[id(parameter)], parameter.asnumpy())

    def constant(self, values: np.ndarray) -> str:
        """Return the name of a constant; equal ones are added once."""
        return self._keep(f"constant_{zlib.crc32(values.tobytes())}_{values.size}", values)

    def _keep(self, name, values):
        self.known.setdefault(name, self.onnx.numpy_helper.from_array(values, name))
        return name
