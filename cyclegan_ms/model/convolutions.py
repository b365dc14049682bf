"""Convolutions of stride 1, computed the way that MindSpore's CPU kernels are good at.

oneDNN's kernels for the gradients of a convolution unroll its input (kernel height x width times
its size, for every thread) and keep that memory, for each convolution of a compiled graph: more
than half of what a training at 256 pixels took. Forward convolutions and products of matrices keep
nothing.
"""

import numpy as np

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.model.operators import for_cpu

__all__ = ["LeanConv2d", "LeanConvolution", "NarrowConv2d"]


class LeanConv2d(nn.Conv2d):
    """`nn.Conv2d` without padding; its gradients need little memory on CPU and no more time.

    (N, C, H, W) to (N, C', H - kernel + 1, W - kernel + 1).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: height and width of the kernel, at least 2.
        convolution: the `LeanConvolution` to use, where several layers of one shape share one.
        **kwargs: as `nn.Conv2d` takes them.
    """

    def __init__(self, in_channels, out_channels, kernel_size, convolution=None, **kwargs):
        super().__init__(in_channels, out_channels, kernel_size, pad_mode="valid", **kwargs)
        self.lean = for_cpu()
        self.convolution = convolution or LeanConvolution(in_channels, out_channels, kernel_size)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.lean or x.dtype != ms.float32:
            return super().construct(x)
        return ops.bias_add(self.convolution(x, self.weight), self.bias)


class LeanConvolution(nn.Cell):
    """Convolve x (N, C, H, W) by weights (C', C, k, k), with the gradients written by hand.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: k, at least 2.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.kernel = kernel_size
        self.convolve = ops.Conv2D(out_channels, kernel_size)
        self.by_input = ops.Conv2D(in_channels, kernel_size, pad_mode="pad", pad=kernel_size - 1)
        self.turn = _Turn(kernel_size)
        self.product = ops.BatchMatMul(transpose_b=True)
        self.across = ops.MatMul(transpose_a=True)
        self.identity = ms.Tensor(np.eye(kernel_size**2, dtype=np.float32))
        # Operators rather than functions and indices, for each of which Graph mode compiles many.
        self.join = tuple(ops.Concat(axis) for axis in range(4))
        self.zeros, self.slice, self.sum = ops.Zeros(), ops.Slice(), ops.ReduceSum()
        self.reshape = ops.Reshape()

    def construct(self, x, weight):
        return self.convolve(x, weight)

    def bprop(self, x, weight, out, dout):
        return self.by_input(dout, self.turn(weight)), self._by_weight(x, dout)

    def _by_weight(self, x, dout):
        # The sum over n, y, x of dout[n, o, y, x] * input[n, c, y + i, x + j]: for each i a product
        # of two matrices that share y and x. One holds dout moved by each j, the other the input
        # from row i on.
        k, c_in = self.kernel, x.shape[1]
        n, c_out, height, width = dout.shape
        # Concatenated: `ops.pad` takes several times as long.
        zeros = [self.zeros((n, c_out, height, j), dout.dtype) for j in range(1, k)]
        moved = ()
        for j in range(k):
            parts = (dout,)
            if j > 0:
                parts = (zeros[j - 1], *parts)
            if j < k - 1:
                parts = (*parts, zeros[k - 2 - j])
            moved += (self.join[3](parts),)
        width = width + k - 1
        moved = self.reshape(self.join[1](moved), (n, k * c_out, height * width))
        gradient = ()
        for i in range(k):
            rows = self.slice(x, (0, 0, i, 0), (n, c_in, height, width))
            product = self.product(moved, self.reshape(rows, (n, c_in, height * width)))
            if n > 1:
                product = self.sum(product, 0)
            gradient += (self.reshape(product, (k, c_out * c_in)),)
        # (k * k, C' C) transposed by a product too: MindSpore's own way keeps memory as well.
        gradient = self.across(self.join[0](gradient), self.identity)
        return self.reshape(gradient, (c_out, c_in, k, k))


class NarrowConv2d(nn.Conv2d):
    """`nn.Conv2d` of stride 1 without padding, for many input channels and few output channels.

    On CPU it is a transposed convolution by turned weights, which oneDNN multiplies as a matrix of
    C' kernel^2 rows instead of C': 7 to 9 times as fast for 64 to 3 channels, 7x7.

    (N, C, H, W) to (N, C', H - kernel + 1, W - kernel + 1).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: height and width of the kernel.
        **kwargs: as `nn.Conv2d` takes them.
    """

    def __init__(self, in_channels, out_channels, kernel_size, **kwargs):
        super().__init__(in_channels, out_channels, kernel_size, pad_mode="valid", **kwargs)
        self.turned = for_cpu()
        self.lost = kernel_size - 1
        self.transposed = ops.Conv2DTranspose(
            in_channels, kernel_size, pad_mode="pad", pad=(self.lost,) * 4
        )
        self.turn = _Turn(kernel_size)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.turned or x.dtype != ms.float32:
            return super().construct(x)
        n, _, h, w = x.shape
        shape = (n, self.out_channels, h - self.lost, w - self.lost)
        return ops.bias_add(self.transposed(x, self.turn(self.weight), shape), self.bias)


class _Turn(nn.Cell):
    """Turn every kernel by 180 degrees: weights (C', C, k, k) to (C, C', k, k)."""

    def __init__(self, kernel):
        super().__init__()
        # A permutation as a product of matrices: 20 times as fast as MindSpore's `reverse`.
        self.order = ms.Tensor(np.eye(kernel * kernel, dtype=np.float32)[::-1].copy())
        self.product, self.transpose, self.reshape = ops.MatMul(), ops.Transpose(), ops.Reshape()

    def construct(self, weight):
        c_out, c_in, k, _ = weight.shape
        kernels = self.reshape(self.transpose(weight, (1, 0, 2, 3)), (c_in * c_out, k * k))
        return self.reshape(self.product(kernels, self.order), (c_in, c_out, k, k))
