"""Convolutions on CPU by unrolling: of any size, of stride 2, transposed, of an enlarged map."""

import numpy as np

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.model.stacked import Stacked, constant

__all__ = ["Enlarged", "IntoFew", "OutOfFew", "Strided", "StridedTranspose", "Unrolled"]


class _Unrolling(Stacked):
    """To lay the values of a picture that lie under the same weight side by side."""

    def __init__(self, c_in, c_out, kernel, stride, padding):
        super().__init__()
        self.c_in, self.c_out, self.kernel, self.padding = c_in, c_out, kernel, padding
        self.stride, k = stride, kernel
        self.plain = ops.Conv2D(c_out, k, stride=stride, pad_mode="pad", pad=padding)
        # oneDNN keeps a copy of the output unless its channels are a multiple of 4, or many.
        self.places = -(-k * k // 4) * 4
        self.unroll, self.unroll_around = self._unroll(padding), self._unroll(k - 1 - padding)
        self.ones = constant(np.eye(self.places, k * k).reshape(self.places, 1, k, k))
        self.turn = constant(np.eye(self.places, k * k)[:, ::-1])
        self.transpose = ops.Transpose()

    def _unroll(self, padding):
        around = (padding, max(self.kernel - self.stride - padding, 0), padding, padding)
        return ops.Conv2D(self.places, self.kernel, stride=self.stride, pad_mode="pad", pad=around)

    def by_weight(self, x, dout):
        """Return the gradient of the weights, from x unrolled."""
        k, c_in, c_out = self.kernel, self.c_in, self.c_out
        rows = (x.shape[2] + self.kernel) // self.stride
        unrolled = self.unroll(self.stacked(x, rows * self.stride), self.ones)
        unrolled = self.reshape(unrolled, (self.places * c_in, -1))
        dout = self.reshape(self.stacked(dout, rows), (c_out, -1))
        by_weight = self.reshape(self.product_b(dout, unrolled), (c_out, self.places, c_in))
        by_weight = self.slice(by_weight, (0, 0, 0), (c_out, k * k, c_in))
        return self.reshape(self.transpose(by_weight, (0, 2, 1)), (c_out, c_in, k, k))


class Unrolled(_Unrolling):
    """A convolution of stride 1, its gradients from the outputs' unrolled."""

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int):
        super().__init__(c_in, c_out, kernel, 1, padding)

    def construct(self, x, weight):
        return self.plain(x, weight)

    def bprop(self, x, weight, out, dout):
        k, c_in, c_out, n, (h, w) = self.kernel, self.c_in, self.c_out, x.shape[0], x.shape[2:]
        rows = h + k
        unrolled = self.unroll_around(self.stacked(dout, rows), self.ones)
        unrolled = self.reshape(unrolled, (self.places * c_out, -1))
        kernels = self.product_b(self.turn, self.reshape(weight, (c_out * c_in, k * k)))
        by_input = self.product_a(self.reshape(kernels, (-1, c_in)), unrolled)
        by_input = self.unstacked(by_input, n, c_in, rows, h, w)
        x = self.reshape(self.stacked(x, rows), (c_in, -1))
        by_weight = self.reshape(self.product_b(unrolled, x), (self.places, c_out * c_in))
        by_weight = self.product_a(by_weight, self.turn)
        return by_input, self.reshape(by_weight, (c_out, c_in, k, k))


class IntoFew(Unrolled):
    """`Unrolled` into few channels, row by row of the kernels.

    oneDNN computes at least 16 output channels; the rows of the kernels fill them.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int):
        super().__init__(c_in, c_out, kernel, padding)
        self.by_rows = _ByRows(c_out, kernel, padding)

    def construct(self, x, weight):
        return self.by_rows(x, weight)


class OutOfFew(_Unrolling):
    """A convolution of stride 1 out of few channels: the gradient by the input is `IntoFew`."""

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int):
        super().__init__(c_in, c_out, kernel, 1, padding)
        self.back_by_rows = _ByRows(c_in, kernel, kernel - 1 - padding)

    def construct(self, x, weight):
        return self.plain(x, weight)

    def bprop(self, x, weight, out, dout):
        k, c_in, c_out = self.kernel, self.c_in, self.c_out
        kernels = self.product_b(self.reshape(weight, (c_out * c_in, k * k)), self.turn)
        kernels = self.slice(kernels, (0, 0), (c_out * c_in, k * k))
        kernels = self.transpose(self.reshape(kernels, (c_out, c_in, k, k)), (1, 0, 2, 3))
        return self.back_by_rows(dout, kernels), self.by_weight(x, dout)


class _ByRows(nn.Cell):
    """Convolve by each row of the kernels as if it were a kernel of its own, and add up."""

    def __init__(self, c_out, kernel, padding):
        super().__init__()
        self.c_out, self.kernel = c_out, kernel
        self.convolve = ops.Conv2D(c_out * kernel, (1, kernel), pad_mode="pad", pad=(padding,) * 4)
        self.add = ops.Conv2D(c_out, (kernel, 1))
        self.add_by = constant(np.eye(c_out * kernel).reshape(c_out, kernel, c_out * kernel, 1)
                                .transpose(0, 2, 1, 3))  # fmt: skip
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()

    def construct(self, x, weight):
        rows = self.transpose(weight, (0, 2, 1, 3))
        rows = self.reshape(rows, (self.c_out * self.kernel, -1, 1, self.kernel))
        return self.add(self.convolve(x, rows), self.add_by)


class Strided(_Unrolling):
    """A convolution of stride 2.

    Back to the input, pixels of even and odd rows and columns are four convolutions by 2x2 weights.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int):
        super().__init__(c_in, c_out, kernel, 2, padding)
        self.phases = ops.Conv2D(4 * c_in, 2, pad_mode="pad", pad=1)
        self.phases_of = constant(_phases(kernel))
        self.interleave = _Interleave()

    def construct(self, x, weight):
        return self.plain(x, weight)

    def bprop(self, x, weight, out, dout):
        by_input = self.transposed(dout, weight, x.shape[2], x.shape[3])
        return by_input, self.by_weight(x, dout)

    def transposed(self, y, weight, height, width):
        """Apply the transposed convolution: (N, C', h, w) to (N, C, height, width)."""
        c_in = self.c_in
        kernels = self.reshape(weight, (self.c_out * c_in, self.kernel * self.kernel))
        kernels = self.reshape(self.product_b(kernels, self.phases_of), (self.c_out, c_in, 4, 4))
        kernels = self.transpose(kernels, (2, 1, 0, 3))
        kernels = self.reshape(kernels, (4 * c_in, self.c_out, 2, 2))
        return self.interleave(self.phases(y, kernels), self.padding, height, width)


class _Interleave(nn.Cell):
    """Lay out pixels of even and odd rows and columns, (N, 4 C, h, w), as one picture.

    It begins at the second row and column for `padding` 1, and is cut to (N, C, height, width).
    """

    def __init__(self):
        super().__init__()
        self.reshape, self.slice, self.tile = ops.Reshape(), ops.Slice(), ops.Tile()
        self.pair, self.products_a = constant(np.eye(2)[None]), ops.BatchMatMul(transpose_a=True)
        self.split_rows, self.join_columns = ops.Split(1, 2), ops.Concat(3)

    def construct(self, x, padding, height, width):
        # Columns' phase, rows' phase and channel; the phases are then put beside each other.
        n, c, rows = x.shape[0], x.shape[1] // 4, x.shape[2]
        x = self.reshape(x, (n, 2, -1))
        x = self.reshape(self.products_a(x, self.tile(self.pair, (n, 1, 1))), (n, 2, c * rows, -1))
        x = self.join_columns(self.split_rows(x))
        x = self.reshape(x, (n, c, 2 * rows, -1))
        return self.slice(x, (0, 0, padding, padding), (n, c, height, width))


def _phases(kernel):
    """Return how kernels of four convolutions are made of one of stride 2: (16, kernel^2).

    Row r of the padded picture takes row y of the outputs with weight r - 2y. Of an even or odd
    (phase) row, a 2x2 window over the outputs has the weights phase + 2 and phase.
    """
    chosen = np.zeros((2, 2, 2, 2, kernel, kernel), np.float32)  # columns' and rows' phase, window
    for phase_x, phase_y, y, x in np.ndindex(2, 2, 2, 2):
        row, column = phase_y + 2 * (1 - y), phase_x + 2 * (1 - x)
        if row < kernel and column < kernel:
            chosen[phase_x, phase_y, y, x, row, column] = 1
    return chosen.reshape(16, kernel * kernel)


class StridedTranspose(Strided):
    """The transposed of a 3x3 convolution of stride 2: y (N, C', h, w) to (N, C, 2h, 2w).

    Args:
        c_in: C, of the result.
        c_out: C', of the argument; weights are (C', C, 3, 3).
        padding: 0 or 1 row and column that the result lacks at the top and left, of the one that
            it has too many.
    """

    def __init__(self, c_in: int, c_out: int, padding: int):
        super().__init__(c_in, c_out, 3, padding)
        around = (padding, 1 - padding) * 2
        self.plain = ops.Conv2D(c_out, 3, stride=2, pad_mode="pad", pad=around)
        self.unroll = ops.Conv2D(self.places, 3, stride=2, pad_mode="pad", pad=around)

    def construct(self, y, weight):
        return self.transposed(y, weight, 2 * y.shape[2], 2 * y.shape[3])

    def bprop(self, y, weight, out, dout):
        return self.plain(dout, weight), self.by_weight(dout, y)


class Enlarged(nn.Cell):
    """A map of twice the size, by its nearest neighbours, mirrored at its edges and convolved 3x3.

    Pixels of even and odd rows and columns of the result are four convolutions of the small map by
    2x2 sums of the weights: (N, C, h, w) and (C', C, 3, 3) to (N, C', 2h, 2w).
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.c_in, self.c_out = c_in, c_out
        self.phases_of, self.convolve = constant(_sums()), Unrolled(c_in, 4 * c_out, 2, 0)
        self.interleave, self.product_b = _Interleave(), ops.MatMul(transpose_b=True)
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()
        # Of the large map the second row is mirrored: the same as the small map's first.
        self.repeat_edges = ops.MirrorPad("SYMMETRIC")
        self.one_on_each_side = ms.Tensor([[0, 0], [0, 0], [1, 1], [1, 1]], ms.int64)

    def construct(self, x, weight):
        height, width = 2 * x.shape[2], 2 * x.shape[3]
        kernels = self.reshape(weight, (self.c_out * self.c_in, 9))
        kernels = self.reshape(
            self.product_b(kernels, self.phases_of), (self.c_out, self.c_in, 4, 4)
        )
        kernels = self.transpose(kernels, (2, 0, 1, 3))
        kernels = self.reshape(kernels, (4 * self.c_out, self.c_in, 2, 2))
        phases = self.convolve(self.repeat_edges(x, self.one_on_each_side), kernels)
        return self.interleave(phases, 1, height, width)


def _sums():
    """Return which weights of a 3x3 kernel meet the same pixel of the small map: (16, 9).

    A 2x2 window over two rows of it makes the large map's row between them (phase 0), which sees
    the upper one twice, and the row after that (phase 1), which sees the lower one twice.
    """
    rows = {(0, 0): (0, 1), (0, 1): (2,), (1, 0): (0,), (1, 1): (1, 2)}  # phase and window
    chosen = np.zeros((2, 2, 2, 2, 3, 3), np.float32)  # columns' and rows' phase, window
    for phase_x, phase_y, y, x in np.ndindex(2, 2, 2, 2):
        for row in rows[phase_y, y]:
            for column in rows[phase_x, x]:
                chosen[phase_x, phase_y, y, x, row, column] = 1
    return chosen.reshape(16, 9)
