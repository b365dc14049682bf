"""Pictures larger than memory: a generator computed layer by layer, each layer in tiles.

Instance normalisation looks at the whole picture, so that tiles translated on their own come out in
colours of their own. Here every layer is finished for the whole picture before the next begins:
tiles share the picture's own statistics and read their neighbours' pixels, and the result is that
of the undivided picture, up to rounding. Feature maps at the picture's full resolution, the
largest, are never kept, but computed again where they are needed.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mindspore import nn

from cyclegan_ms.model.layers import (
    Fork,
    Join,
    Normalisation,
    Pointwise,
    Region,
    UnknownLayer,
    Window,
    layers_of,
)

__all__ = ["translate_tiled"]

_MOVE = 150
"""Products that take as long as reading or writing a value, about (CPU, widths 32 and 64)."""


def translate_tiled(
    generator: nn.Cell,
    pixels: np.ndarray,
    tile: int,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Translate a picture in tiles.

    Args:
        generator: any cell that `layers_of` can flatten.
        pixels: (1, C, H, W) in [-1, 1], H and W multiples of 4 and at least 8.
        tile: side of a tile, in pixels of the picture.
        progress: called with the share of the work that is done, 0 to 1, after each layer.

    Returns (1, C', H, W).

    Raises:
        UnknownLayer: the generator has a layer that is not described.
    """
    layers = layers_of(generator)
    last = _last_window(layers)
    height = pixels.shape[2]
    parts = _shares(layers, pixels[0].shape)
    current = _Map(pixels[0].shape, kept=pixels[0])
    remembered: list[_Map] = []
    for layer, part in zip(layers, parts):
        if type(layer) is Fork:
            remembered.append(current)
        elif type(layer) is Join:
            current = remembered.pop().plus(current, _regions(current.shape, height, tile))
        elif isinstance(layer, Pointwise):
            current = current.then(layer.apply)
        elif isinstance(layer, Normalisation):
            current = current.normalised(layer, _regions(current.shape, height, tile))
        elif isinstance(layer, Window):
            following = _following(layer, current)
            if _is_kept(layer, following.shape, height, last):
                following = following.keep(_regions(following.shape, height, tile))
            current = following
        else:
            raise UnknownLayer(type(layer).__name__)
        if progress:
            progress(part)
    return current.finished((0, current.shape[1], 0, current.shape[2]))[None]


def _last_window(layers):
    return next(layer for layer in reversed(layers) if isinstance(layer, Window))


def _is_kept(layer, shape, height, last):
    """Whether the output of a layer is kept, rather than computed where it is needed."""
    return layer is last or not (layer.cheap or shape[1] >= height)


def _shares(layers, shape):
    """Return which share of the time has passed after each layer, roughly.

    What is not kept takes its time where it is asked for: by statistics, and by the next layer
    that is kept. Measured (CPU, 1.4 megapixels, widths 32 and 64): right within 0.07.
    """
    height = shape[1]
    last = _last_window(layers)
    efforts, asked = [], 0.0
    for layer in layers:
        done = 0.0
        if isinstance(layer, Window):
            source, shape = shape, layer.shape(*shape)
            asked += np.prod(shape) * layer.products + _MOVE * (np.prod(source) + np.prod(shape))
            if _is_kept(layer, shape, height, last):
                done, asked = asked, 0.0
        elif type(layer) is Join:
            done, asked = asked, 0.0
        elif isinstance(layer, Normalisation) and layer.stored() is None:
            done = asked
        efforts.append(done)
    return np.cumsum(efforts) / sum(efforts)


def _regions(shape, height, tile) -> Iterator[Region]:
    """Cut a map into tiles as large, in pixels of the picture of that height, as asked for."""
    side = max(8, tile * shape[1] // height)
    for y in range(0, shape[1], side):
        for x in range(0, shape[2], side):
            yield y, min(y + side, shape[1]), x, min(x + side, shape[2])


def _following(layer, source):
    """Return the map that a layer makes of another, computed when it is asked for."""

    def compute(region):
        return layer.compute(source.padded(layer.source(region), layer.reflect), region)

    return _Map(layer.shape(*source.shape), compute)


class _Map:
    """A feature map of the whole picture, with what is still to be done to its values.

    Args:
        shape: (C, H, W).
        compute: gives the values (C, h, w) of a region, where they are not kept.
        kept: all values.
        pending: functions of single values that are still to be applied, in order.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        compute: Callable[[Region], np.ndarray] | None = None,
        kept: np.ndarray | None = None,
        pending: tuple[Callable[[np.ndarray], np.ndarray], ...] = (),
    ):
        self.shape, self.compute, self.kept, self.pending = shape, compute, kept, pending

    def then(self, function: Callable[[np.ndarray], np.ndarray]) -> "_Map":
        """Return the map after one more function of its values."""
        return _Map(self.shape, self.compute, self.kept, (*self.pending, function))

    def finished(self, region: Region) -> np.ndarray:
        """Compute the values in a region inside of the picture, as a new array."""
        if self.kept is None:
            assert self.compute is not None
            values = self.compute(region)
        else:
            y0, y1, x0, x1 = region
            values = self.kept[:, y0:y1, x0:x1].copy()
        for function in self.pending:
            values = function(values)
        return values

    def padded(self, region: Region, reflect: bool) -> np.ndarray:
        """Compute a region that may reach beyond the picture: mirrored there, or zero."""
        y0, y1, x0, x1 = region
        (top, bottom), (left, right) = (
            (max(0, -low), max(0, high - extent))
            for low, high, extent in ((y0, y1, self.shape[1]), (x0, x1, self.shape[2]))
        )
        if not (top or bottom or left or right):
            return self.finished(region)
        if not reflect:
            inside = self.finished((y0 + top, y1 - bottom, x0 + left, x1 - right))
            return np.pad(inside, ((0, 0), (top, bottom), (left, right)))
        rows, columns = (
            _mirrored(np.arange(low, high), extent)
            for low, high, extent in ((y0, y1, self.shape[1]), (x0, x1, self.shape[2]))
        )
        box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
        return self.finished(box)[:, (rows - box[0])[:, None], columns - box[2]]

    def keep(self, regions) -> "_Map":
        """Return this map with all of its values computed, region by region."""
        kept = np.empty(self.shape, np.float32)
        for region in regions:
            y0, y1, x0, x1 = region
            kept[:, y0:y1, x0:x1] = self.finished(region)
        return _Map(self.shape, kept=kept)

    def plus(self, other: "_Map", regions) -> "_Map":
        """Add another map into this one, which nothing else needs any more."""
        assert self.kept is not None
        for region in regions:
            y0, y1, x0, x1 = region
            self.kept[:, y0:y1, x0:x1] = self.finished(region) + other.finished(region)
        return _Map(self.shape, kept=self.kept)

    def normalised(self, layer: Normalisation, regions) -> "_Map":
        """Return the map normalised by the stored statistics of a layer, or else by its own."""
        mean, variance = layer.stored() or self._statistics(regions)
        shift = mean.astype(np.float32)[:, None, None]
        scale = (1 / np.sqrt(variance + layer.epsilon)).astype(np.float32)[:, None, None]
        return self.then(lambda values: (values - shift) * scale)

    def _statistics(self, regions):
        """Return mean and variance of every channel."""
        total = squares = np.zeros(self.shape[0])
        for region in regions:
            values = self.finished(region)
            total = total + values.sum((1, 2), dtype=np.float64)
            squares = squares + np.square(values, dtype=np.float64).sum((1, 2))
        count = self.shape[1] * self.shape[2]
        mean = total / count
        return mean, squares / count - mean**2


def _mirrored(positions, extent):
    positions = np.abs(positions)
    return np.where(positions >= extent, 2 * (extent - 1) - positions, positions)
