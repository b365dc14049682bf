"""Winograd's method: 3x3 convolutions of stride 1 on CPU with a quarter of the products."""

import numpy as np

from mindspore import nn, ops

from cyclegan_ms.model.stacked import Stacked, constant

__all__ = ["POINTS", "Winograd", "transforms"]


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


class Winograd(Stacked):
    """A 3x3 convolution of stride 1, in tiles of 4x4 outputs: 4 times fewer products.

    Tiles may hang over the right and lower edge.

    Args:
        padding: rows and columns of zeros on each side, 0 or 1.
    """

    LARGEST = 5_500_000
    """Values of a map, N x C x H x W, that it is quick and lean for. Beyond some 60 MB of tiles,
    oneDNN keeps them a second time for each layer, and a plain convolution is as quick."""

    def __init__(self, padding: int = 0):
        super().__init__()
        self.padding, self.gap = padding, max(padding, 1)
        a, g, b = transforms(POINTS)
        self.g, self.g_turned = (constant(np.kron(m, m)) for m in (g, g[:, ::-1]))
        self.cut, self.cut_dout = _Cut(padding, b), _Cut(2 - padding, b)
        self.cut_back = ops.Conv2D(36, 4, stride=4, pad_mode="pad", pad=(0, 0, 0, 3))
        self.cut_back_by = constant(np.kron(a.T, a.T).reshape(36, 1, 4, 4))
        self.rows, self.columns = constant(a), constant(np.broadcast_to(a.T, (4, 6, 4)))
        self.products, self.products_a = ops.BatchMatMul(), ops.BatchMatMul(transpose_a=True)
        self.products_b, self.phases = ops.BatchMatMul(transpose_b=True), ops.Split(0, 4)

    def construct(self, x, weight):
        n, c_in, h, w = x.shape
        c_out, height, width = weight.shape[0], h - 2 + 2 * self.padding, w - 2 + 2 * self.padding
        rows = (h + self.gap + 3) // 4 * 4
        tiles = self.reshape(self.cut(self.stacked(x, rows)), (36, c_in, -1))
        kernels = self._kernels(self.depend(weight, tiles), self.g, c_out, c_in)
        products = self.products(kernels, tiles)
        return self._outputs(products, n, c_out, rows, height, width)

    def bprop(self, x, weight, out, dout):
        n, c_in, h, w = x.shape
        c_out = weight.shape[0]
        # By the input: a convolution of dout by the turned kernels, channels swapped.
        rows = (h + 5) // 4 * 4
        tiles = self.cut_dout(self.stacked(dout, rows))
        kernels = self._kernels(self.depend(weight, tiles), self.g_turned, c_out, c_in)
        products = self.products_a(kernels, self.reshape(tiles, (36, c_out, -1)))
        by_input = self._outputs(products, n, c_in, rows, h, w)
        # By the weights: back through the sums of the outputs, the products and the kernels. With
        # `depend`, or Graph mode keeps the tiles of the forward pass rather than cut them again.
        x = self.depend(x, by_input)
        rows = (h + self.gap + 3) // 4 * 4
        tiles = self.reshape(self.cut(self.stacked(x, rows)), (36, c_in, -1))
        back = self.cut_back(self.stacked(dout, rows), self.cut_back_by)
        kernels = self.products_b(self.reshape(back, (36, c_out, -1)), tiles)
        by_weight = self.product_a(self.reshape(kernels, (36, c_out * c_in)), self.g)
        return by_input, self.reshape(by_weight, (c_out, c_in, 3, 3))

    def _kernels(self, weight, transform, c_out, c_in):
        """Transform (C', C, 3, 3) to (36, C', C)."""
        kernels = self.product_b(transform, self.reshape(weight, (c_out * c_in, 9)))
        return self.reshape(kernels, (36, c_out, c_in))

    def _outputs(self, products, n, c, rows, height, width):
        """Sum the products (36, c, tiles of all images) up to (N, c, height, width)."""
        # The outputs' row in a tile is first, then (after the next line) the tile's column.
        sums = self.product(self.rows, self.reshape(products, (6, -1)))
        sums = self.products_a(self.reshape(sums, (4, 6, -1)), self.columns)
        sums = self.reshape(sums, (4, 1, c * n * rows // 4, -1))  # columns of tiles side by side
        y = ops.Concat(3)(self.phases(sums))  # and their rows below each other
        return self.unstacked(y, n, c, rows, height, width)


class _Cut(nn.Cell):
    """Cut a picture (1, 1, H, W) into tiles of 6x6, 4 apart, and transform rows and columns.

    The 36 places of a tile come out first, as products of matrices want them: (6, 6, ...). One
    after the other rows and columns take two thirds of the time of both at once.
    """

    def __init__(self, padding, transform):
        super().__init__()
        # At the right as much as the last tile can need: what makes no whole tile is left out.
        rows, columns = (padding, 2 - padding, 0, 0), (0, 0, padding, padding + 3)
        self.rows = ops.Conv2D(6, (6, 1), stride=(4, 1), pad_mode="pad", pad=rows)
        self.columns = ops.Conv2D(6, (1, 6), stride=(1, 4), pad_mode="pad", pad=columns)
        self.by_rows = constant(transform.reshape(6, 1, 6, 1))
        self.by_columns = constant(transform.reshape(6, 1, 1, 6))
        self.reshape = ops.Reshape()

    def construct(self, picture):
        rows = self.rows(picture, self.by_rows)
        rows = self.reshape(rows, (6, 1, -1, picture.shape[3]))
        return self.columns(rows, self.by_columns)
