"""The layers that convolve: MindSpore's, computed on CPU by the kernels of this package."""

from functools import cache
from typing import Any

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.model.kernels import method_for, resized_method_for, transposed_method_for
from cyclegan_ms.model.operators import for_cpu, pictures

__all__ = ["Conv2d", "Conv2dTranspose", "Nearest", "OnCpu", "ResizeConv2d"]


@cache
def _the(method, *sizes):
    """Return the one cell of a method and sizes: Graph mode compiles every separate one."""
    return method(*sizes)


class OnCpu:
    """A layer with a `method` of its own for float32 on CPU; None where there is none.

    Each kind has the same `construct`: Graph mode finds no `super().construct` from here.
    """

    method: Any
    adds_bias: bool
    weight: ms.Parameter
    bias: ms.Parameter

    def use(self, method: nn.Cell | None) -> None:
        """Compute by a method, or by MindSpore's own operator."""
        # Not as a part of the layer: mixed precision would reach it, and all layers that share it.
        object.__setattr__(self, "method", method)

    def by_method(self, x: ms.Tensor) -> ms.Tensor:
        """Compute by the method, with the bias."""
        y = self.method(x, self.weight)
        return ops.bias_add(y, self.bias) if self.adds_bias else y


class Conv2d(OnCpu, nn.Conv2d):
    """`nn.Conv2d`, square, of stride 1 or 2, with zeros around.

    (N, C, H, W) to (N, C', (H + 2 padding - k) / stride + 1, ...), rounded down.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: k, at most 4 at stride 2.
        stride: 1 or 2.
        padding: rows and columns of zeros on each side.
        normalised: whether a normalisation follows that takes a bias off again. The cells that
            `model/kernels.py` chooses do not add it then, and its gradient is exactly 0; adding it
            and summing that up would cost more than 3 % of a training step.
        **kwargs: as `nn.Conv2d` takes them.
    """

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, *, normalised=False,
        **kwargs,
    ):  # fmt: skip
        sizes = (in_channels, out_channels, kernel_size, stride)
        super().__init__(*sizes, pad_mode="pad", padding=padding, **kwargs)
        self.adds_bias = self.has_bias and not normalised
        self.use(_the(method_for, *sizes, padding, pictures()) if for_cpu() else None)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.method is None or x.dtype != ms.float32:
            return super().construct(x)
        return self.by_method(x)


class Conv2dTranspose(OnCpu, nn.Conv2dTranspose):
    """`nn.Conv2dTranspose`, 3x3 of stride 2: (N, C, H, W) to (N, C', 2H, 2W).

    Args:
        in_channels: C.
        out_channels: C'.
        same: which of two alignments to use. The full result has one row and column too many: True
            drops the last, as `same` padding does, False the first, as PyTorch does with padding 1
            and output padding 1.
        normalised: as for `Conv2d`.
        **kwargs: as `nn.Conv2dTranspose` takes them.
    """

    def __init__(self, in_channels, out_channels, same=False, *, normalised=False, **kwargs):
        # MindSpore's `output_padding` appends zeros after the bias instead of computing the last
        # row and column, so they are asked for by cropping one pixel less at the bottom and right.
        padding = {"pad_mode": "same"} if same else {"pad_mode": "pad", "padding": (1, 0, 1, 0)}
        super().__init__(in_channels, out_channels, 3, 2, **padding, **kwargs)
        self.adds_bias = self.has_bias and not normalised
        form = (out_channels, in_channels, 0 if same else 1, pictures())
        self.use(_the(transposed_method_for, *form) if for_cpu() else None)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.method is None or x.dtype != ms.float32:
            return super().construct(x)
        return self.by_method(x)


class Nearest(nn.Cell):
    """Double height and width by repeating each pixel: (N, C, H, W) to (N, C, 2H, 2W)."""

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        n, c, h, w = x.shape
        x = ops.stack((x, x), 4).reshape(n, c, h, 2 * w)
        return ops.stack((x, x), 3).reshape(n, c, 2 * h, 2 * w)


class ResizeConv2d(OnCpu, nn.Conv2d):
    """`Nearest`, mirror padding by 1, and a 3x3 convolution: (N, C, H, W) to (N, C', 2H, 2W).

    Every pixel is made of equally many weights, where a transposed convolution lays a grid over the
    picture (Odena et al. 2016).

    Args:
        in_channels: C.
        out_channels: C'.
        normalised: as for `Conv2d`.
        **kwargs: as `nn.Conv2d` takes them.
    """

    def __init__(self, in_channels, out_channels, *, normalised=False, **kwargs):
        super().__init__(in_channels, out_channels, 3, pad_mode="valid", **kwargs)
        self.adds_bias = self.has_bias and not normalised
        self.enlarge, self.pad = Nearest(), nn.ReflectionPad2d(1)
        form = (in_channels, out_channels, pictures())
        self.use(_the(resized_method_for, *form) if for_cpu() else None)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.method is None or x.dtype != ms.float32:
            return super().construct(self.pad(self.enlarge(x)))
        return self.by_method(x)
