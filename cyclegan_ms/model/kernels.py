"""Which convolution, with its gradients, is the quickest on CPU: of which sizes, for what.

MindSpore's forward `Conv2D` and its products of matrices are quick there and keep little memory.
Its gradient kernels and `Transpose` keep, for each instance in a compiled graph, copies of what
they are given. So those chosen here are made of the former: 3x3 ones of stride 1 by Winograd's
method (`winograd`), all others by unrolling (`unrolled`). For small pictures they are MindSpore's
own, but without a bias that is taken off again (`Plain`).

Graph mode repeats the source of a `bprop` for every layer that is trained: each operator, index and
branch there costs compilation, so there are few.
"""

from mindspore import nn, ops

from cyclegan_ms.model.operators import Pictures
from cyclegan_ms.model.unrolled import (
    Enlarged,
    IntoFew,
    OutOfFew,
    Strided,
    StridedTranspose,
    Unrolled,
)
from cyclegan_ms.model.winograd import Winograd

__all__ = ["Plain", "kind_of", "method_for", "resized_method_for", "transposed_method_for"]


SMALL = 64 * 64
"""Pixels of a batch up to which MindSpore's operators are as quick as all but those for 7x7: what
each kernel costs however small its maps are decides. They compile in half of the time."""

FEW = 8
"""Up to so many output channels, a convolution is quicker row by row of its kernels."""


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
) -> nn.Cell:
    """Return the quickest cell that maps x (N, C, H, W) and weights (C', C, k, k) to their product.

    It holds no parameters: one serves all layers of the same sizes.

    Args:
        c_in: C.
        c_out: C'.
        kernel: k, at most 4 at stride 2.
        stride: 1 or 2.
        padding: rows and columns of zeros on each side, at most k - stride.
        pictures: the size of what it is to see.
    """
    if pictures == "small" and kernel < 7:
        return Plain(c_out, kernel, stride, padding)
    if stride == 2:
        return Strided(c_in, c_out, kernel, padding)
    if kernel == 3 and padding <= 1 and pictures != "large":
        return Winograd(padding)
    kind = IntoFew if c_out <= FEW else OutOfFew if c_in <= FEW else Unrolled
    return kind(c_in, c_out, kernel, padding)


def transposed_method_for(
    c_in: int, c_out: int, padding: int, pictures: Pictures
) -> nn.Cell | None:
    """Return what `method_for` does, for a transposed 3x3 convolution: see `StridedTranspose`.

    None where MindSpore's own operator is as quick.
    """
    return None if pictures == "small" else StridedTranspose(c_in, c_out, padding)


def resized_method_for(c_in: int, c_out: int, pictures: Pictures) -> nn.Cell | None:
    """Return what `method_for` does, for a 3x3 convolution of an enlarged map: see `Enlarged`.

    None where MindSpore's own operators are as quick.
    """
    return None if pictures == "small" else Enlarged(c_in, c_out)


class Plain(nn.Cell):
    """A convolution by MindSpore's own operators, gradients too: for small pictures."""

    def __init__(self, c_out: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.plain = ops.Conv2D(c_out, kernel, stride=stride, pad_mode="pad", pad=padding)

    def construct(self, x, weight):
        return self.plain(x, weight)
