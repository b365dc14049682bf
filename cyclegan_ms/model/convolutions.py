"""Convolutions of stride 1, computed the way that MindSpore's CPU kernels are good at.

The 3x3 ones take Winograd's method: 4 times fewer multiplications, in forward convolutions and
products of matrices, the kernels that are quickest. They are also those that keep no memory: each
gradient kernel and each `Transpose` of a compiled graph keeps what it unrolled.
"""

import numpy as np

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops import functional as F

from cyclegan_ms.model.operators import for_cpu

__all__ = ["NarrowConv2d", "Winograd", "WinogradConv2d"]


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d` with a 3x3 kernel and stride 1, on CPU by Winograd's method.

    (N, C, H, W) to (N, C', H - 2 + 2 padding, W - 2 + 2 padding).

    Args:
        in_channels: C.
        out_channels: C'.
        padding: rows and columns of zeros on each side, 0 or 1.
        winograd: the `Winograd` to use, where several layers share one.
        **kwargs: as `nn.Conv2d` takes them.
    """

    def __init__(self, in_channels, out_channels, padding=0, winograd=None, **kwargs):
        super().__init__(in_channels, out_channels, 3, pad_mode="pad", padding=padding, **kwargs)
        self.by_winograd = for_cpu()
        self.winograd = winograd or Winograd(padding)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.by_winograd or x.dtype != ms.float32:
            return super().construct(x)
        y = self.winograd(x, self.weight)
        return ops.bias_add(y, self.bias) if self.has_bias else y


def transforms(points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (4, 6), G (6, 3) and B^T (6, 6) of Winograd's F(4, 3).

    Four neighbouring outputs of a one-dimensional convolution of d (6) by g (3) are A^T ((G g)
    (B^T d)), with six products of numbers: polynomials are multiplied at five points and infinity
    (Lavin and Gray 2016, section 4; Barabasz et al. 2020, section 2).

    Args:
        points: the five finite points, all different.
    """

    def powers(count):
        at_infinity = [0.0] * (count - 1) + [1.0]
        return np.array([[point**k for k in range(count)] for point in points] + [at_infinity])

    b = np.linalg.inv(powers(6).T)
    # Rows of B and G may be scaled against each other: let B begin with ones.
    scale = np.array([np.abs(row[np.abs(row) > 1e-9]).min() for row in b])[:, None]
    return powers(4).T, powers(3) * scale, b / scale


# Points near 1 round least: against float64, 256 channels were off by 2.3e-6 of the largest value;
# with the usual 0, 1, -1, 2, -2 by 8.8e-6, a plain convolution by 2.3e-7.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


def _constant(values):
    return ms.Tensor(np.ascontiguousarray(values, np.float32))


class Winograd(nn.Cell):
    """Convolve x (N, C, H, W) by weights (C', C, 3, 3), and the gradients, in tiles of 4x4.

    Tiles may hang over the right and lower edge. Holds no parameters: one serves many layers.

    Args:
        padding: rows and columns of zeros on each side, 0 or 1.
    """

    def __init__(self, padding: int = 0):
        super().__init__()
        self.padding = padding
        a, g, b = transforms(POINTS)
        self.g, self.g_turned = (_constant(np.kron(m, m)) for m in (g, g[:, ::-1]))
        # The images of a batch and their channels lie below each other in one picture of a single
        # channel: then a convolution cuts the tiles and transforms them, with the 36 places first.
        self.cut = ops.Conv2D(36, 6, stride=4, pad_mode="pad", pad=(0, 2, 0, 0))
        self.cut_by = _constant(np.kron(b, b).reshape(36, 1, 6, 6))
        self.cut_back = ops.Conv2D(36, 4, stride=4)
        self.cut_back_by = _constant(np.kron(a.T, a.T).reshape(36, 1, 4, 4))
        self.rows, self.columns = _constant(a), _constant(np.broadcast_to(a.T, (4, 6, 4)))
        # Operators rather than functions and indices, for each of which Graph mode compiles many.
        self.product, self.product_b = ops.MatMul(), ops.MatMul(transpose_b=True)
        self.product_a = ops.MatMul(transpose_a=True)
        self.products, self.products_a = ops.BatchMatMul(), ops.BatchMatMul(transpose_a=True)
        self.products_b = ops.BatchMatMul(transpose_b=True)
        self.join_rows, self.join_columns = ops.Concat(1), ops.Concat(2)
        self.phases, self.zeros, self.slice = ops.Split(0, 4), ops.Zeros(), ops.Slice()
        self.reshape, self.tile, self.sum = ops.Reshape(), ops.Tile(), ops.ReduceSum()

    def construct(self, x, weight):
        n, _, height, width = x.shape
        height, width = height - 2 + 2 * self.padding, width - 2 + 2 * self.padding
        tiles = self._tiles(x, self.padding, height, width)
        products = self.products(self._kernels(weight, self.g, n), tiles)
        return self._outputs(products, n, weight.shape[0], height, width)

    def bprop(self, x, weight, out, dout):
        n, c_out, height, width = dout.shape
        c_in = weight.shape[1]
        # By the input: a convolution of dout by the turned kernels, channels swapped.
        h, w = x.shape[2:]
        tiles = self._tiles(dout, 2 - self.padding, h, w)
        products = self.products_a(self._kernels(weight, self.g_turned, n), tiles)
        by_input = self._outputs(products, n, c_in, h, w)
        # By the weights: back through the sums of the outputs, the products and the kernels.
        tiles = self._tiles(x, self.padding, height, width)
        down, across = (height + 3) // 4 + 1, (width + 3) // 4
        picture = self._extended(dout, 0, 4 * down, 4 * across)
        picture = self.reshape(picture, (1, 1, n * c_out * 4 * down, 4 * across))
        back = self.cut_back(picture, self.cut_back_by)
        back = self.reshape(back, (36, n, c_out, down * across))
        kernels = self.products_b(back, tiles)
        if n > 1:
            kernels = self.sum(kernels, 1)
        kernels = self.reshape(kernels, (36, c_out * c_in))
        by_weight = self.reshape(self.product_a(kernels, self.g), (c_out, c_in, 3, 3))
        return by_input, by_weight

    def _kernels(self, weight, transform, n):
        """Transform (C', C, 3, 3) to (36, n, C', C): n times the same."""
        c_out, c_in = weight.shape[:2]
        kernels = self.product_b(transform, self.reshape(weight, (c_out * c_in, 9)))
        kernels = self.reshape(kernels, (36, 1, c_out, c_in))
        return self.tile(kernels, (1, n, 1, 1)) if n > 1 else kernels

    def _tiles(self, x, padding, height, width):
        """Cut tiles for `height` x `width` outputs: (N, C, h, w) to (36, N, C, number of tiles).

        There is a row of tiles too many, which the next channel's picture shines into.
        """
        n, c = x.shape[:2]
        down, across = (height + 3) // 4 + 1, (width + 3) // 4
        picture = self._extended(x, padding, 4 * down, 4 * across + 2)
        picture = self.reshape(picture, (1, 1, n * c * 4 * down, 4 * across + 2))
        return self.reshape(self.cut(picture, self.cut_by), (36, n, c, down * across))

    def _extended(self, x, padding, height, width):
        """Put zeros around (N, C, h, w): `padding` at the top and left, the rest opposite.

        Returns (N C, height, width).
        """
        n, c, h, w = x.shape
        x = self.reshape(x, (n * c, h, w))
        # Concatenated: MindSpore's `Pad` takes ten times as long.
        if F.isconstant(h) and F.isconstant(w):
            below, beside = height - h - padding, width - w - padding
            parts = (x, self.zeros((n * c, below, w), x.dtype)) if below > 0 else (x,)
            if padding > 0:
                parts = (self.zeros((n * c, padding, w), x.dtype), *parts)
            x = self.join_rows(parts) if len(parts) > 1 else x
            parts = (x, self.zeros((n * c, height, beside), x.dtype)) if beside > 0 else (x,)
            if padding > 0:
                parts = (self.zeros((n * c, height, padding), x.dtype), *parts)
            return self.join_columns(parts) if len(parts) > 1 else x
        # Of a size that is known only when it runs: more zeros than any size needs, and cut off.
        x = self.join_rows((x, self.zeros((n * c, 8, w), x.dtype)))
        if padding > 0:
            x = self.join_rows((self.zeros((n * c, padding, w), x.dtype), x))
        rows = h + 8 + padding
        x = self.join_columns((x, self.zeros((n * c, rows, 8), x.dtype)))
        if padding > 0:
            x = self.join_columns((self.zeros((n * c, rows, padding), x.dtype), x))
        return self.slice(x, (0, 0, 0), (n * c, height, width))

    def _outputs(self, products, n, c, height, width):
        """Sum the products up to outputs: (36, n, c, number of tiles) to (n, c, height, width)."""
        down, across = (height + 3) // 4 + 1, (width + 3) // 4
        count = n * c * down * across
        # (the outputs' row in a tile; the tile's column of products; image, channel and tile)
        sums = self.reshape(self.product(self.rows, self.reshape(products, (6, 6 * count))),
                            (4, 6, count))  # fmt: skip
        sums = self.products_a(sums, self.columns)  # (4, count, 4): columns of a tile side by side
        sums = self.reshape(sums, (4, n * c, down, 4 * across))
        rows = ()
        for phase in self.phases(sums):
            rows += (self.reshape(phase, (n * c, down, 4 * across)),)
        y = self.reshape(self.join_columns(rows), (n * c, 4 * down, 4 * across))
        return self.reshape(self.slice(y, (0, 0, 0), (n * c, height, width)),
                            (n, c, height, width))  # fmt: skip


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
