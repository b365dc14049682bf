"""Convolutions and both their gradients, out of the operators that are quick on CPU.

MindSpore's forward `Conv2D` and its products of matrices are quick there and keep little memory.
Its gradient kernels and `Transpose` keep, for each instance in a compiled graph, copies of what
they are given. So everything here is made of the former: a 3x3 convolution of stride 1 by
Winograd's method, every other one by unrolling.

Channels and images are stacked in one picture of a single channel: one convolution then cuts it
into tiles, or unrolls it, and sums over a batch are those inside of a product of matrices.

Graph mode repeats the source of a `bprop` for every layer that is trained: each operator, index and
branch below costs compilation, so there are few.
"""

import numpy as np

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.model.operators import Pictures

__all__ = ["kind_of", "method_for", "resized_method_for", "transposed_method_for"]


SMALL = 64 * 64
"""Pixels of a batch up to which MindSpore's operators are as quick as all but those for 7x7: what
each kernel costs however small its maps are decides. They compile in half of the time."""


def kind_of(pixels: int, width: int, batches: int = 1) -> Pictures:
    """Return which of three kinds pictures are.

    Args:
        pixels: of all in a batch; 0 if that is not known.
        width: channels after a generator's first convolution. A residual block, which decides what
            is large, has 4 times as many at a quarter of the sides.
        batches: how many the generator sees at once.
    """
    if batches * pixels * width / 4 > Winograd.LARGEST:
        return "large"
    return "small" if 0 < pixels <= SMALL else "usual"


def method_for(
    c_in: int, c_out: int, kernel: int, stride: int, padding: int, pictures: Pictures
) -> nn.Cell | None:
    """Return the quickest cell that maps x (N, C, H, W) and weights (C', C, k, k) to their product.

    It holds no parameters: one serves all layers of the same sizes.

    Args:
        c_in: C.
        c_out: C'.
        kernel: k, at most 4 at stride 2.
        stride: 1 or 2.
        padding: rows and columns of zeros on each side, at most k - stride.
        pictures: the size of what it is to see.

    Returns None where MindSpore's own operator is as quick.
    """
    if pictures == "small" and kernel < 7:
        return None
    if stride == 2:
        return Strided(c_in, c_out, kernel, padding)
    if kernel == 3 and padding <= 1 and pictures != "large":
        return Winograd(padding)
    kind = IntoFew if c_out <= FEW else OutOfFew if c_in <= FEW else Unrolled
    return kind(c_in, c_out, kernel, padding)


def transposed_method_for(
    c_in: int, c_out: int, padding: int, pictures: Pictures
) -> nn.Cell | None:
    """Return what `method_for` does, for a transposed 3x3 convolution: see `StridedTranspose`."""
    return None if pictures == "small" else StridedTranspose(c_in, c_out, padding)


def resized_method_for(c_in: int, c_out: int, pictures: Pictures) -> nn.Cell | None:
    """Return what `method_for` does, for a 3x3 convolution of an enlarged map: see `Enlarged`."""
    return None if pictures == "small" else Enlarged(c_in, c_out)


FEW = 8
"""Up to so many output channels, a convolution is quicker row by row of its kernels."""


def _constant(values):
    return ms.Tensor(np.ascontiguousarray(values, np.float32))


class _Stacked(nn.Cell):
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


# ------------------------------------------------------------------------------ Winograd's method


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


class Winograd(_Stacked):
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
        self.g, self.g_turned = (_constant(np.kron(m, m)) for m in (g, g[:, ::-1]))
        self.cut, self.cut_dout = _Cut(padding, b), _Cut(2 - padding, b)
        self.cut_back = ops.Conv2D(36, 4, stride=4, pad_mode="pad", pad=(0, 0, 0, 3))
        self.cut_back_by = _constant(np.kron(a.T, a.T).reshape(36, 1, 4, 4))
        self.rows, self.columns = _constant(a), _constant(np.broadcast_to(a.T, (4, 6, 4)))
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
        self.by_rows = _constant(transform.reshape(6, 1, 6, 1))
        self.by_columns = _constant(transform.reshape(6, 1, 1, 6))
        self.reshape = ops.Reshape()

    def construct(self, picture):
        rows = self.rows(picture, self.by_rows)
        rows = self.reshape(rows, (6, 1, -1, picture.shape[3]))
        return self.columns(rows, self.by_columns)


# -------------------------------------------------------------------------------------- unrolling


class _Unrolling(_Stacked):
    """To lay the values of a picture that lie under the same weight side by side."""

    def __init__(self, c_in, c_out, kernel, stride, padding):
        super().__init__()
        self.c_in, self.c_out, self.kernel, self.padding = c_in, c_out, kernel, padding
        self.stride, k = stride, kernel
        self.plain = ops.Conv2D(c_out, k, stride=stride, pad_mode="pad", pad=padding)
        # oneDNN keeps a copy of the output unless its channels are a multiple of 4, or many.
        self.places = -(-k * k // 4) * 4
        self.unroll, self.unroll_around = self._unroll(padding), self._unroll(k - 1 - padding)
        self.ones = _constant(np.eye(self.places, k * k).reshape(self.places, 1, k, k))
        self.turn = _constant(np.eye(self.places, k * k)[:, ::-1])
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
        self.add_by = _constant(np.eye(c_out * kernel).reshape(c_out, kernel, c_out * kernel, 1)
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
        self.phases_of = _constant(_phases(kernel))
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
        self.pair, self.products_a = _constant(np.eye(2)[None]), ops.BatchMatMul(transpose_a=True)
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
        self.phases_of, self.convolve = _constant(_sums()), Unrolled(c_in, 4 * c_out, 2, 0)
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
