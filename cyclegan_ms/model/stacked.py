"""What the convolutions for CPU share: a batch and its channels in one picture of one channel.

One convolution then cuts it into tiles, or unrolls it, and sums over a batch are those inside of a
product of matrices.
"""

import numpy as np

import mindspore as ms
from mindspore import nn, ops

__all__ = ["Stacked", "constant"]


def constant(values) -> ms.Tensor:
    """Return values as a float32 tensor for a graph."""
    return ms.Tensor(np.ascontiguousarray(values, np.float32))


class Stacked(nn.Cell):
    """What all methods share: to stack a batch in one picture, and to take it apart."""

    def __init__(self):
        super().__init__()
        # Operators rather than functions and indices, for each of which Graph mode compiles many.
        self.reshape, self.slice, self.zeros = ops.Reshape(), ops.Slice(), ops.Zeros()
        self.product, self.product_a = ops.MatMul(), ops.MatMul(transpose_a=True)
        self.product_b = ops.MatMul(transpose_b=True)
        self.join_images, self.join_rows = ops.Concat(0), ops.Concat(2)
        self.depend = ops.Depend()

    def stacked(self, x, rows):
        """Lay images below each other, `rows` apart: (N, C, h, w) to (1, 1, C N rows, w)."""
        n, c, h, w = x.shape
        # Concatenated: MindSpore's `Pad` takes ten times as long.
        zeros = self.zeros((1, c, rows - h, w), x.dtype)
        if n == 1:
            parts = (x, zeros)
        else:
            parts = ()
            for image in ops.Split(0, n)(x):
                parts += (image, zeros)
        return self.reshape(self.join_rows(parts), (1, 1, c * n * rows, w))

    def unstacked(self, y, n, c, rows, height, width):
        """Take the upper left of each image: (C, N, rows, ...) to (N, C, height, width)."""
        y = self.reshape(y, (c, n, rows, -1))
        if n == 1:
            return self.reshape(self.slice(y, (0, 0, 0, 0), (c, 1, height, width)),
                                (1, c, height, width))  # fmt: skip
        images = ()
        for i in range(n):
            image = self.slice(y, (0, i, 0, 0), (c, 1, height, width))
            images += (self.reshape(image, (1, c, height, width)),)
        return self.join_images(images)
