"""Pictures larger than memory: a generator computed layer by layer, each layer in tiles.

Instance normalisation looks at the whole picture, so that tiles translated on their own come out in
colours of their own. Here every layer is finished for the whole picture before the next begins:
tiles share the picture's own statistics and read their neighbours' pixels, and the result is that
of the undivided picture, up to rounding. Feature maps at the picture's full resolution, the
largest, are never kept, but computed again where they are needed.
"""

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.networks import InstanceNorm, ResidualBlock, Tanh
from cyclegan_ms.tutorial import TutorialBlock, TutorialStage

__all__ = ["translate_tiled"]


def translate_tiled(generator: nn.Cell, pixels: np.ndarray, tile: int) -> np.ndarray:
    """A picture through a generator of either variant.

    Args:
        generator: `ResNetGenerator` or `TutorialGenerator`.
        pixels: (1, C, H, W) in [-1, 1], H and W multiples of 4 and at least 8.
        tile: side of a tile, in pixels of the picture.

    Returns (1, C', H, W).
    """
    walk = _Walk(pixels.shape[2], tile)
    image = _Map(pixels[0].shape, kept=pixels[0])
    return walk.chain(generator.parts(), image).whole()[None]


class _Map:
    """A feature map of the whole picture, with what is still to be done to its values.

    Args:
        shape: (C, H, W).
        compute: gives the values of a region, where they are not kept.
        kept: all values.
    """

    def __init__(self, shape, compute=None, kept=None):
        self.shape = shape
        self.compute, self.kept = compute, kept
        self.mean = self.scale = None
        self.slope = None
        self.tanh = False

    def values(self, y0, y1, x0, x1):
        """Region [y0, y1) x [x0, x1), inside of the picture, as the layer left it."""
        if self.kept is None:
            return self.compute(y0, y1, x0, x1)
        return self.kept[:, y0:y1, x0:x1]

    def finished(self, *region):
        """The same, normalised and activated; a new array."""
        values = self.values(*region)
        if self.mean is None:
            values = values.copy()
        else:
            values = (values - self.mean[:, None, None]) * self.scale[:, None, None]
        if self.slope is not None:
            np.maximum(values, self.slope * values, out=values)
        if self.tanh:
            np.tanh(values, out=values)
        return values

    def whole(self):
        """All of it, finished."""
        return self.finished(0, self.shape[1], 0, self.shape[2])

    def padded(self, y0, y1, x0, x1, reflect):
        """A finished region that may reach beyond the picture: mirrored there, or zero."""
        (top, bottom), (left, right) = (
            (max(0, -low), max(0, high - extent))
            for low, high, extent in ((y0, y1, self.shape[1]), (x0, x1, self.shape[2]))
        )
        if not (reflect and (top or bottom or left or right)):
            inside = self.finished(y0 + top, y1 - bottom, x0 + left, x1 - right)
            return np.pad(inside, ((0, 0), (top, bottom), (left, right)))
        rows, columns = (
            _mirrored(np.arange(low, high), extent)
            for low, high, extent in ((y0, y1, self.shape[1]), (x0, x1, self.shape[2]))
        )
        box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
        return self.finished(*box)[:, (rows - box[0])[:, None], columns - box[2]]


def _mirrored(positions, extent):
    positions = np.abs(positions)
    return np.where(positions >= extent, 2 * (extent - 1) - positions, positions)


class _Walk:
    """Takes feature maps through cells.

    Args:
        height: of the picture: maps of this height are not kept.
        tile: side of a tile, in pixels of the picture.
    """

    def __init__(self, height, tile):
        self.height, self.tile = height, tile
        self.reflected = 0

    def chain(self, cells, x):
        """The map after cells, one after the other; what tanh ends is kept whatever its size."""
        cells = list(cells)
        for cell, following in zip(cells, [*cells[1:], None]):
            x = self.through(cell, x, last=isinstance(following, Tanh))
        return x

    def through(self, cell, x, last=False):
        """The map after a cell; `last` keeps it whatever its size."""
        if isinstance(cell, nn.SequentialCell):
            x = self.chain(cell, x)
        elif isinstance(cell, ResidualBlock):
            x = self._sum(x, self.through(cell.conv_block, x))
        elif isinstance(cell, TutorialBlock):
            x = self._sum(x, self.through(cell.conv2, self.through(cell.conv1, x)))
        elif isinstance(cell, TutorialStage):
            x = self.through(cell.features, x)
        elif isinstance(cell, nn.ReflectionPad2d):
            self.reflected = cell.padding[0][0]
        elif isinstance(cell, nn.Conv2dTranspose):
            x = self._upsampled(cell, x)
        elif isinstance(cell, nn.Conv2d):
            x = self._convolution(cell, x, last)
        elif isinstance(cell, InstanceNorm):
            x.mean, x.scale = self._statistics(x)
        elif isinstance(cell, nn.BatchNorm2d):
            x.mean = cell.moving_mean.asnumpy()
            x.scale = 1 / np.sqrt(cell.moving_variance.asnumpy() + np.float32(cell.eps))
        elif isinstance(cell, nn.LeakyReLU):
            x.slope = np.float32(cell.alpha)
        elif isinstance(cell, nn.ReLU):
            x.slope = np.float32(0)
        elif isinstance(cell, Tanh):
            x.tanh = True
        else:
            raise TypeError(f"no tiles for {type(cell).__name__}")
        return x

    def _convolution(self, cell, x, last):
        reflect = self.reflected > 0
        pad, self.reflected = self.reflected or cell.padding, 0
        stride, kernel = cell.stride[0], cell.kernel_size[0]
        run = _unpadded(nn.Conv2d, cell)

        def compute(*region):
            box = [
                edge * stride - pad + (0 if low else kernel - stride)
                for edge, low in zip(region, (True, False, True, False))
            ]
            return run(x.padded(*box, reflect))

        sides = [extent // stride for extent in x.shape[1:]]
        return self._map((cell.out_channels, *sides), compute, last)

    def _upsampled(self, cell, x):
        # Of the row that a convolution of stride 2 has too many, `same` drops the last.
        dropped = 0 if cell.pad_mode == "same" else 1
        run = _unpadded(nn.Conv2dTranspose, cell)

        def compute(y0, y1, x0, x1):
            top, left = y0 // 2 - 1, x0 // 2 - 1
            values = run(x.padded(top, (y1 + 1) // 2 + 1, left, (x1 + 1) // 2 + 1, False))
            y, x_ = y0 - 2 * top + dropped, x0 - 2 * left + dropped
            return values[:, y : y + y1 - y0, x_ : x_ + x1 - x0]

        return self._map((cell.out_channels, *(2 * extent for extent in x.shape[1:])), compute)

    def _sum(self, x, y):
        """The sum in the place of x, which nothing else looks at any more."""
        for region in self._regions(x.shape):
            y0, y1, x0, x1 = region
            x.kept[:, y0:y1, x0:x1] = x.finished(*region) + y.finished(*region)
        return _Map(x.shape, kept=x.kept)

    def _map(self, shape, compute, last=False):
        if shape[1] == self.height and not last:
            return _Map(shape, compute)
        kept = np.empty(shape, np.float32)
        for y0, y1, x0, x1 in self._regions(shape):
            kept[:, y0:y1, x0:x1] = compute(y0, y1, x0, x1)
        return _Map(shape, kept=kept)

    def _statistics(self, x):
        """Mean and 1 / sqrt(variance + 1e-5) of every channel."""
        total = squares = 0.0
        for region in self._regions(x.shape):
            values = x.values(*region)
            total = total + values.sum((1, 2), dtype=np.float64)
            squares = squares + np.square(values, dtype=np.float64).sum((1, 2))
        count = x.shape[1] * x.shape[2]
        mean = total / count
        variance = squares / count - mean**2
        return mean.astype(np.float32), (1 / np.sqrt(variance + 1e-5)).astype(np.float32)

    def _regions(self, shape):
        side = max(8, self.tile * shape[1] // self.height)
        for y in range(0, shape[1], side):
            for x in range(0, shape[2], side):
                yield y, min(y + side, shape[1]), x, min(x + side, shape[2])


def _unpadded(kind, cell):
    """A function that convolves an array (C, H, W) by the weights of a cell, without padding."""
    copy = kind(
        cell.in_channels, cell.out_channels, cell.kernel_size, cell.stride,
        pad_mode="valid", has_bias=cell.has_bias,
    )  # fmt: skip
    copy.weight.set_data(cell.weight)
    if cell.has_bias:
        copy.bias.set_data(cell.bias)
    return lambda values: copy(ms.Tensor(values[None])).asnumpy()[0]
