"""Generators as MindIR and ONNX, for images of many sizes, checked before kept."""

import zlib
from pathlib import Path

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.checkpoint import METADATA, GeneratorSpec
from cyclegan_ms.config import UserError
from cyclegan_ms.engines import MindIREngine, OnnxEngine, require_onnx
from cyclegan_ms.files import atomic_path
from cyclegan_ms.networks import InstanceNorm, ResidualBlock, Tanh
from cyclegan_ms.tutorial import TutorialBlock, TutorialStage

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
    write, engine = {
        "onnx": (_write_onnx, OnnxEngine),
        "mindir": (_write_mindir, MindIREngine),
    }[kind]
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


def largest_difference(generator: nn.Cell, engine) -> float:
    """Largest difference of outputs in [-1, 1] between a generator and an engine."""
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

    anything = ms.Tensor(shape=[None, spec.in_channels, None, None], dtype=ms.float32)
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)  # the exporter wants it
    try:
        ms.export(generator, anything, file_name=str(path), file_format="MINDIR")
    finally:
        ms.set_context(mode=mode)
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    path.unlink()  # MindSpore writes it read-only
    if hasattr(model.user_info, "add"):  # a list of pairs before MindSpore 2.10
        model.user_info.add(key=METADATA, value=spec.to_json())
    else:
        model.user_info[METADATA] = spec.to_json()
    path.write_bytes(model.SerializeToString())


# ------------------------------------------------------------------------------------- ONNX


def _write_onnx(generator, spec, path):
    onnx, _ = require_onnx()
    graph = _Graph(onnx, generator)
    graph.chain(generator.parts(), "image")
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
    """Collects the nodes and weights of an ONNX graph, cell by cell.

    MindSpore's own exporter cannot write reflection padding.
    """

    def __init__(self, onnx, generator):
        self.onnx = onnx
        self.names = {id(p): name for name, p in generator.parameters_and_names()}
        self.nodes, self.known = [], {}

    @property
    def weights(self):
        """All initializers; a parameter that is used twice is there once, under its name."""
        return list(self.known.values())

    def chain(self, cells, x):
        """The name of the output of cells applied to `x` one after the other."""
        for cell in cells:
            x = self.apply(cell, x)
        return x

    def apply(self, cell, x):
        """The name of the output of any cell of our generators applied to `x`."""
        if isinstance(cell, ResidualBlock):
            return self.node("Add", [x, self.apply(cell.conv_block, x)])
        if isinstance(cell, TutorialBlock):
            return self.node("Add", [x, self.apply(cell.conv2, self.apply(cell.conv1, x))])
        if isinstance(cell, TutorialStage):
            return self.apply(cell.features, x)
        if isinstance(cell, nn.SequentialCell):
            return self.chain(cell, x)
        if isinstance(cell, nn.Conv2dTranspose):
            # Of the one row and column too many, `same` drops the last; (1, 0, 1, 0) is top,
            # bottom, left, right here, and top, left, bottom, right in ONNX.
            pads = [0, 0, 1, 1] if cell.pad_mode == "same" else [1, 1, 0, 0]
            return self._convolution("ConvTranspose", cell, x, pads)
        if isinstance(cell, nn.Conv2d):
            return self._convolution("Conv", cell, x, [cell.padding] * 4)
        if isinstance(cell, InstanceNorm):
            one, zero = np.ones(cell.channels, np.float32), np.zeros(cell.channels, np.float32)
            inputs = [x, self.constant(one), self.constant(zero)]
            return self.node("InstanceNormalization", inputs, epsilon=1e-5)
        if isinstance(cell, nn.BatchNorm2d):
            values = (cell.gamma, cell.beta, cell.moving_mean, cell.moving_variance)
            inputs = [x, *map(self.weight, values)]
            return self.node("BatchNormalization", inputs, epsilon=cell.eps)
        if isinstance(cell, nn.ReflectionPad2d):
            (top, bottom), (left, right) = cell.padding
            pads = self.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
            return self.node("Pad", [x, pads], mode="reflect")
        if isinstance(cell, nn.LeakyReLU):
            return self.node("LeakyRelu", [x], alpha=float(cell.alpha))
        if isinstance(cell, nn.ReLU):
            return self.node("Relu", [x])
        if isinstance(cell, Tanh):
            return self.node("Tanh", [x])
        raise TypeError(f"no ONNX for {type(cell).__name__}")

    def _convolution(self, kind, cell, x, pads):
        inputs = [x, self.weight(cell.weight)]
        if cell.has_bias:
            inputs.append(self.weight(cell.bias))
        return self.node(kind, inputs, strides=list(cell.stride), pads=pads)

    def node(self, kind, inputs, **options):
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **options))
        return output

    def weight(self, parameter):
        return self._keep(self.names[id(parameter)], parameter.asnumpy())

    def constant(self, values):
        return self._keep(f"constant_{zlib.crc32(values)}_{values.size}", values)

    def _keep(self, name, values):
        self.known.setdefault(name, self.onnx.numpy_helper.from_array(values, name))
        return name
