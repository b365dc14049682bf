"""Primitive layers, and one description of each for whatever walks a generator layer by layer.

`layers_of` flattens a generator to a list of `Layer`s. Export reads `to_onnx` of each; tiles read
which part of its input a layer looks at and what it makes of that. A new kind of layer is described
here and nowhere else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops.operations import _grad_ops

from cyclegan_ms.model.convolutions import Conv2d, Conv2dTranspose, Nearest, ResizeConv2d
from cyclegan_ms.model.operators import for_cpu, for_pictures
from cyclegan_ms.model.stacked import constant

__all__ = [
    "Fork",
    "InstanceNorm",
    "Join",
    "Layer",
    "Normalisation",
    "OnnxGraph",
    "Pointwise",
    "ReLU",
    "Tanh",
    "UnknownLayer",
    "Window",
    "layers_of",
]

EPSILON = 1e-5
"""Added to the variance by instance normalisation."""

# ---------------------------------------------------------------------------- our own cells


class InstanceNorm(nn.Cell):
    """Normalise each channel of each image to mean 0 and variance 1, without parameters.

    (N, C, H, W) to the same shape. The same function in training and inference, at every N.
    The variance is the biased one, with 1e-5 added, as in Ulyanov et al. 2016.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.normalise = _Normalise(channels) if for_cpu() else None

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.normalise is None:
            return ops.group_norm(x, self.channels, eps=EPSILON)
        return self.normalise(x)[0]


class _Normalise(nn.Cell):
    """Instance normalisation on CPU, which has no such kernel: (N, C, H, W) to that and a variance.

    GroupNorm costs a third of a step there. Folding the batch into the channels makes batch
    statistics those of a single image. The gradient needs the result and not the argument, which
    would take as much memory again.
    """

    def __init__(self, channels):
        super().__init__()
        self.batch_norm = ops.BatchNorm(is_training=True, epsilon=EPSILON)
        self.gradient = _grad_ops.BatchNormGrad(is_training=True, epsilon=EPSILON)
        self.reshape = ops.Reshape()
        # BatchNorm writes running statistics into its last two inputs. Graph mode merges equal
        # constants, so all of them need different values: a merged pair is overwritten before the
        # backward pass reads it, and gradients come out silently wrong.
        values = (1, 0, 0.25, 0.5, 1 - EPSILON)
        self.scale, self.shift, self.unused_mean, self.unused_variance, self.nearly_one = (
            constant(np.full(channels, value)) for value in values
        )

    def construct(self, x):
        n, c, h, w = x.shape
        folded = self.batch_norm(
            self.reshape(x, (1, n * c, h, w)),
            self._for_all(self.scale, n), self._for_all(self.shift, n),
            self._for_all(self.unused_mean, n), self._for_all(self.unused_variance, n),
        )  # fmt: skip
        return self.reshape(folded[0], (n, c, h, w)), folded[4]

    def _for_all(self, values, n):
        """Repeat the values of an image's channels for n of them."""
        return values if n == 1 else ops.tile(values, (n,))

    def bprop(self, x, out, dout):
        y, variance = out
        n, c, h, w = x.shape
        # The kernel's formula for something of mean 0 and variance 1, scaled by the deviation.
        scale = ops.rsqrt(variance + EPSILON)
        mean, one = self._for_all(self.shift, n), self._for_all(self.nearly_one, n)
        y, dy = self.reshape(y, (1, n * c, h, w)), self.reshape(dout[0], (1, n * c, h, w))
        dx = self.gradient(dy, y, scale, mean, one, one)[0]
        return (self.reshape(dx, (n, c, h, w)),)


class ReLU(nn.Cell):
    """Compute max(x, 0), with a gradient that needs the argument and not the result.

    A normalisation before it keeps the argument already; MindSpore's own keeps the result too.
    """

    def __init__(self):
        super().__init__()
        self.relu, self.gradient = ops.ReLU(), _grad_ops.ReluGrad()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.relu(x)

    def bprop(self, x, out, dout):
        return (self.gradient(dout, x),)


class Tanh(nn.Cell):
    """Compute tanh to float32's precision: MindSpore's own is off by up to 1e-4 on CPU.

    The same on every device, for an exported file may be run on another one.
    """

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return 2 * ops.sigmoid(2 * x) - 1


# ------------------------------------------------------------------------ what a layer is

Region = tuple[int, int, int, int]
"""[y0, y1) x [x0, x1) of a feature map."""


class OnnxGraph(Protocol):
    """What a layer writes itself into; names stand for values."""

    def node(self, kind: str, inputs: list[str], **attributes) -> str:
        """Add a node and return the name of its output."""

    def weight(self, parameter: ms.Parameter) -> str:
        """Return the name of a parameter's value."""

    def constant(self, values: np.ndarray) -> str:
        """Return the name of a constant."""


class Layer:
    """One step of a generator, from one feature map to the next."""

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        """Add the layer, applied to the value named `x`; return the name of its output."""
        raise TypeError(f"{type(self).__name__} has no ONNX node")


class Fork(Layer):
    """Remember the map here, for the next `Join`."""


class Join(Layer):
    """Add the map that the last `Fork` remembered."""


class Pointwise(Layer):
    """A function of each value on its own.

    Args:
        kind: its operator in ONNX.
        function: the same in NumPy; it may overwrite its argument.
        attributes: of the operator.
    """

    def __init__(self, kind: str, function: Callable[[np.ndarray], np.ndarray], **attributes):
        self.kind, self.apply, self.attributes = kind, function, attributes

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        return graph.node(self.kind, [x], **self.attributes)


class Normalisation(Layer):
    """(x - mean) / sqrt(variance + epsilon), channel by channel.

    Args:
        channels: how many.
        epsilon: added to the variance.
        norm: the `nn.BatchNorm2d` with the stored statistics to use; None uses the picture's own.
    """

    def __init__(self, channels: int, epsilon: float, norm: nn.BatchNorm2d | None = None):
        self.channels, self.epsilon, self.norm = channels, epsilon, norm

    def stored(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return mean and variance (C,), or None where the picture's own are to be used."""
        if self.norm is None:
            return None
        return self.norm.moving_mean.asnumpy(), self.norm.moving_variance.asnumpy()

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        if self.norm is None:
            one = graph.constant(np.ones(self.channels, np.float32))
            zero = graph.constant(np.zeros(self.channels, np.float32))
            return graph.node("InstanceNormalization", [x, one, zero], epsilon=self.epsilon)
        values = (
            self.norm.gamma, self.norm.beta, self.norm.moving_mean, self.norm.moving_variance,
        )  # fmt: skip
        inputs = [x, *map(graph.weight, values)]
        return graph.node("BatchNormalization", inputs, epsilon=self.epsilon)


class Window(Layer, ABC):
    """A layer whose output at a place depends on the input around it."""

    reflect = False
    """Whether the input is mirrored beyond its edges, rather than zero."""
    cheap = False
    """Whether computing it again is cheaper than keeping its output."""
    products: float = 0
    """How many products an output value is the sum of, away from the edges."""

    @abstractmethod
    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of the output for an input (channels, height, width)."""

    @abstractmethod
    def source(self, region: Region) -> Region:
        """Return the region of the input, perhaps beyond its edges, that an output depends on."""

    @abstractmethod
    def compute(self, values: np.ndarray, region: Region) -> np.ndarray:
        """Return the output (C', h, w) in `region`, from the input (C, ...) in its source."""


class Reflection(Window):
    """Mirror padding of `size` pixels on each side."""

    reflect = True
    cheap = True

    def __init__(self, cell: nn.ReflectionPad2d):
        (top, bottom), (left, right) = cell.padding
        if len({top, bottom, left, right}) > 1:
            raise UnknownLayer(f"a ReflectionPad2d of different sides, {cell.padding},")
        self.size = int(top)

    def shape(self, channels, height, width):
        return channels, height + 2 * self.size, width + 2 * self.size

    def source(self, region):
        y0, y1, x0, x1 = (edge - self.size for edge in region)
        return y0, y1, x0, x1

    def compute(self, values, region):
        return values

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        pads = [0, 0, self.size, self.size, 0, 0, self.size, self.size]
        return graph.node("Pad", [x, graph.constant(np.array(pads, np.int64))], mode="reflect")


class Convolution(Window):
    """A square convolution, without padding or with zeros on each side."""

    def __init__(self, cell: nn.Conv2d):
        paddings = {cell.padding} if isinstance(cell.padding, int) else set(cell.padding)
        plain = (
            cell.group == 1 and set(cell.dilation) == {1} and len(set(cell.kernel_size)) == 1
            and len(set(cell.stride)) == 1 and cell.pad_mode in ("pad", "valid")
            and len(paddings) == 1
        )  # fmt: skip
        if not plain:
            raise UnknownLayer(f"a {type(cell).__name__} of another form ({cell})")
        self.cell = cell
        self.kernel, self.stride = cell.kernel_size[0], cell.stride[0]
        self.padding = paddings.pop() if cell.pad_mode == "pad" else 0
        self.products = cell.in_channels * self.kernel**2

    @cached_property
    def _run(self):
        return _unpadded(self.cell)

    def shape(self, channels, height, width):
        def side(extent):
            return (extent + 2 * self.padding - self.kernel) // self.stride + 1

        return self.cell.out_channels, side(height), side(width)

    def source(self, region):
        y0, y1, x0, x1 = (edge * self.stride - self.padding for edge in region)
        reach = self.kernel - self.stride
        return y0, y1 + reach, x0, x1 + reach

    def compute(self, values, region):
        return self._run(ms.Tensor(values[None])).asnumpy()[0]

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        return graph.node(
            "Conv", _operands(graph, self.cell, x),
            strides=[self.stride] * 2, pads=[self.padding] * 4,
        )  # fmt: skip


class Upsampling(Window):
    """A transposed convolution, 3x3 with stride 2, of the two alignments that are in use.

    Of the one row and column too many, `same` drops the last; padding (1, 0, 1, 0) drops the first.
    """

    def __init__(self, cell: nn.Conv2dTranspose):
        form = (cell.kernel_size, cell.stride, cell.dilation, cell.group)
        padded = cell.pad_mode == "pad" and tuple(cell.padding) == (1, 0, 1, 0)
        if form != ((3, 3), (2, 2), (1, 1), 1) or not (padded or cell.pad_mode == "same"):
            raise UnknownLayer(f"a Conv2dTranspose of another form ({cell})")
        self.cell = cell
        self.dropped = 1 if padded else 0
        self.products = cell.in_channels * 9 / 4

    @cached_property
    def _run(self):
        return _unpadded(self.cell)

    def shape(self, channels, height, width):
        return self.cell.out_channels, 2 * height, 2 * width

    def source(self, region):
        y0, y1, x0, x1 = region
        return y0 // 2 - 1, (y1 + 1) // 2 + 1, x0 // 2 - 1, (x1 + 1) // 2 + 1

    def compute(self, values, region):
        values = self._run(ms.Tensor(values[None])).asnumpy()[0]
        y0, y1, x0, x1 = region
        top, _, left, _ = self.source(region)
        y, x = y0 - 2 * top + self.dropped, x0 - 2 * left + self.dropped
        return values[:, y : y + y1 - y0, x : x + x1 - x0]

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        # Top, left, bottom, right in ONNX; top, bottom, left, right in MindSpore.
        pads = [1, 1, 0, 0] if self.dropped else [0, 0, 1, 1]
        operands = _operands(graph, self.cell, x)
        return graph.node("ConvTranspose", operands, strides=[2, 2], pads=pads)


class Repetition(Window):
    """Every pixel twice, in both directions."""

    cheap = True

    def shape(self, channels, height, width):
        return channels, 2 * height, 2 * width

    def source(self, region):
        y0, y1, x0, x1 = region
        return y0 // 2, (y1 + 1) // 2, x0 // 2, (x1 + 1) // 2

    def compute(self, values, region):
        y0, y1, x0, x1 = region
        values = values.repeat(2, 1).repeat(2, 2)
        return values[:, y0 % 2 :, x0 % 2 :][:, : y1 - y0, : x1 - x0]

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
        return graph.node("Resize", [x, "", scales], nearest_mode="floor", **how)


def _operands(graph, cell, x):
    return [x, graph.weight(cell.weight), *([graph.weight(cell.bias)] if cell.has_bias else [])]


def _unpadded(cell):
    """Return a convolution by the weights of a cell, without its padding."""
    sizes = (cell.in_channels, cell.out_channels, cell.kernel_size[0], cell.stride[0])
    if isinstance(cell, nn.Conv2dTranspose):
        copy = nn.Conv2dTranspose(*sizes, pad_mode="valid", has_bias=cell.has_bias)
    else:
        with for_pictures("large"):
            copy = Conv2d(*sizes, has_bias=cell.has_bias)
    copy.weight.set_data(cell.weight)
    if cell.has_bias:
        copy.bias.set_data(cell.bias)
    return copy


def _leaky(slope):
    slope = np.float32(slope)
    return lambda values: np.maximum(values, slope * values, out=values)


# ------------------------------------------------------------------- from cells to layers


class UnknownLayer(TypeError):
    """A cell that nobody has described, or one in a form that its description does not cover."""

    def __init__(self, what: str):
        super().__init__(f"{what} is not described in model/layers.py: no export, no tiles")


_KINDS: dict[type, Callable[[nn.Cell], Layer]] = {
    nn.ReflectionPad2d: Reflection,
    nn.Conv2d: Convolution,
    Conv2d: Convolution,
    nn.Conv2dTranspose: Upsampling,
    Conv2dTranspose: Upsampling,
    Nearest: lambda cell: Repetition(),
    InstanceNorm: lambda cell: Normalisation(cell.channels, EPSILON),
    nn.BatchNorm2d: lambda cell: Normalisation(cell.num_features, float(cell.eps), cell),
    nn.ReLU: lambda cell: Pointwise("Relu", _leaky(0)),
    ReLU: lambda cell: Pointwise("Relu", _leaky(0)),
    nn.LeakyReLU: lambda cell: Pointwise("LeakyRelu", _leaky(cell.alpha), alpha=float(cell.alpha)),
    Tanh: lambda cell: Pointwise("Tanh", lambda values: np.tanh(values, out=values)),
}
"""By exact type: a subclass may compute something else."""

_PARTS: dict[type, Callable[[nn.Cell], list[nn.Cell | Layer]]] = {
    nn.SequentialCell: list,
    ResizeConv2d: lambda cell: [cell.enlarge, cell.pad, Convolution(cell)],
}
"""Of cells that are made of others and do not list them themselves."""


def layers_of(cell: nn.Cell | Layer) -> list[Layer]:
    """Flatten a generator, or a part of one, to its primitive layers in the order of computation.

    A cell made of others lists them, with `Fork` and `Join`, in a method `parts` of its class.

    Raises:
        UnknownLayer: a cell that is not described.
    """
    if isinstance(cell, Layer):
        return [cell]
    kind = type(cell)
    if kind in _KINDS:
        return [_KINDS[kind](cell)]
    if kind in _PARTS:
        parts = _PARTS[kind](cell)
    elif "parts" in vars(kind):
        parts = cell.parts()
    else:
        raise UnknownLayer(kind.__name__)
    return [layer for part in parts for layer in layers_of(part)]
