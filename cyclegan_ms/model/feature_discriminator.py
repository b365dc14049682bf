"""A discriminator that judges what a frozen network sees in images (Sauer et al. 2021).

Features of an ImageNet network tell apples from oranges where patches of 70 pixels tell textures;
four small heads judge them at four scales. The paper's random mixing of scales is left out.
"""

from itertools import chain

import numpy as np

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal

from cyclegan_ms.model.efficientnet import Maps

__all__ = ["SIDE", "FeatureDiscriminator", "PowerIteration", "SpectralConv2d"]

SIDE = 128
"""Smaller images are enlarged to this many pixels: at 64 the last map has 2x2 places."""
_WIDTH = 64


class SpectralConv2d(nn.Conv2d):
    """`nn.Conv2d` with its weight divided by that weight's largest singular value.

    Miyato et al. 2018, section 2.1, the weight taken as a matrix (C', C k k). `u` (1, C') and `v`
    (1, C k k) are its singular vectors, kept up to date by `PowerIteration`.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: k; with k // 2 zeros on each side.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__(
            in_channels, out_channels, kernel_size, pad_mode="pad", padding=kernel_size // 2,
            has_bias=True, weight_init=Normal(0.02), bias_init="zeros",
        )  # fmt: skip
        matrix = self.weight.init_data().asnumpy().reshape(out_channels, -1)
        u, v = _singular_vectors(matrix)
        self.u, self.v = (
            ms.Parameter(ms.Tensor(vector[None], ms.float32), name, requires_grad=False)
            for vector, name in ((u, "u"), (v, "v"))
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        matrix = self.weight.reshape(self.weight.shape[0], -1)
        largest = (ops.matmul(self.u, matrix) * self.v).sum()
        return ops.bias_add(self.conv2d(x, self.weight / largest), self.bias)


def _singular_vectors(matrix, rounds=20):
    """Return unit vectors near those of the largest singular value, always the same ones."""
    u = np.random.default_rng(0).normal(size=len(matrix))
    for _ in range(rounds):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u, v


class PowerIteration(nn.Cell):
    """Bring the singular vectors of all `SpectralConv2d` of some cells nearer by one step."""

    def __init__(self, *cells: nn.Cell):
        super().__init__(auto_prefix=False)
        inside = chain.from_iterable(cell.cells_and_names() for cell in cells)
        found = [cell for _, cell in inside if isinstance(cell, SpectralConv2d)]
        self.weights = ms.ParameterTuple([cell.weight for cell in found])
        self.us = ms.ParameterTuple([cell.u for cell in found])
        self.vs = ms.ParameterTuple([cell.v for cell in found])

    def construct(self):
        for weight, u, v in zip(self.weights, self.us, self.vs):
            matrix = weight.reshape(weight.shape[0], -1)
            right = _unit(ops.matmul(u, matrix))
            ops.assign(v, right)
            ops.assign(u, _unit(ops.matmul(right, matrix.T)))
        return True


def _unit(x):
    return x / ops.sqrt((x * x).sum())


class FeatureDiscriminator(nn.Cell):
    """Judge images by a frozen network's maps: (N, C, H, W) in [-1, 1] to four maps of logits.

    Each map goes through convolutions of 1x1, 3x3 and 3x3, of which the last gives one channel:
    (N, 1, H/4, W/4) to (N, 1, H/32, W/32), rounded up, of images of at least 128 pixels.

    Args:
        maps: of the frozen network, which several discriminators may share. It is not a part of
            this cell: not trained, not saved, and in float32 always.
    """

    def __init__(self, maps: Maps):
        super().__init__()
        object.__setattr__(self, "maps", maps)
        self.heads = nn.CellList([_head(channels) for channels in maps.channels])

    def construct(self, x: ms.Tensor):
        _, c, h, _ = x.shape
        if c > 3:
            x = x[:, :3]
        elif c < 3:
            x = ops.concat((x[:, :1], x[:, :1], x[:, :1]), 1)
        if h < SIDE:
            x = ops.interpolate(x, size=(SIDE, SIDE), mode="bilinear")
        a, b, c, d = self.maps(x)
        return self.heads[0](a), self.heads[1](b), self.heads[2](c), self.heads[3](d)


def _head(channels):
    return nn.SequentialCell(
        SpectralConv2d(channels, _WIDTH, 1),
        nn.LeakyReLU(0.2),
        SpectralConv2d(_WIDTH, _WIDTH, 3),
        nn.LeakyReLU(0.2),
        SpectralConv2d(_WIDTH, 1, 3),
    )
