"""`Translator`: a trained generator applied to images of any kind and size."""

import logging
from collections.abc import Callable
from functools import cached_property
from os import PathLike

import numpy as np
from PIL import Image

import mindspore as ms

from cyclegan_ms.data.images import AnyImage, deep_values, from_chw, resized, size_of, to_chw
from cyclegan_ms.data.ranges import Range
from cyclegan_ms.device import free_memory, guard_onednn
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import GENERATOR_FILES, find_weights, no_run
from cyclegan_ms.translate.depth import EIGHT_BITS
from cyclegan_ms.translate.pictures import Picture, deep_picture, split_alpha, with_alpha
from cyclegan_ms.translate.tiles import translate_tiled
from cyclegan_ms.weights.engines import Engine, read_engine

__all__ = ["Translator"]

log = logging.getLogger(__name__)

AUTOMATIC_TILE = 512
LARGEST_TILE = 2048
"""Side of a tile, at most: larger ones would meet `LARGEST_ON_CPU`."""
LARGEST_ON_CPU = 2**31 // (7 * 7 * 8)
"""Pixels that a CPU convolves at once, at most: 5.4 million. On some CPUs oneDNN's 7x7 convolutions
did not come back from larger pictures, at any width; 7 x 7 x 8 values a pixel pass 2^31 there."""

_SOFT = 3
"""A result that is enlarged more often than this is said to be soft."""

# Measured: MindSpore's graph of a generator peaks at 10 to 19 bytes for each channel of its first
# layer and each pixel (CPU; widths 24 and 64, 0.25 to 4.8 megapixels).
_BYTES_PER_CHANNEL = 20
# Measured: 12 megapixels at width 64 in tiles of 512 peaked at 6.
_TILED_BYTES_PER_CHANNEL = 6


class Translator:
    """Translates Pillow images and NumPy arrays, one at a time or in batches.

    Args:
        generator: a folder with g_ab.ckpt, g_ba.ckpt or both, such as a run, or one such file, or
            one that was exported as `.onnx` or `.mindir`, or one of PyTorch, or a shipped name; or
            an engine, which computes a generator.
        direction: a2b, b2a, or by the domains' names, such as apple2orange; None where there is
            only one.
        size: length in pixels that the shorter side is resized to for translation; the result is
            resized back. 0 works on images as they are.
        tile: process images larger than this in tiles of this side. 0 uses tiles of 512 when
            memory is short, and on a CPU above 5 megapixels. The result is the same, up to
            rounding.
        value_range: what black and white are in pictures of more than 8 bits, and in results; None
            takes what the generator was trained with.

    Raises:
        UserError: nothing is there, or it translates in another direction; or `size` or `tile` is
            too small, or `tile` too large.
    """

    def __init__(
        self, generator, direction: str | None = None, size: int = 0, tile: int = 0,
        value_range: Range | None = None,
    ):  # fmt: skip
        for name, value, least in (("size", size, 8), ("tile", tile, 32)):
            if value and value < least:
                raise UserError(f"{name} must be at least {least}, or 0, not {value}")
        if tile > LARGEST_TILE:
            raise UserError(f"tile must be at most {LARGEST_TILE}, not {tile}")
        named = isinstance(generator, str | PathLike)
        self.engine: Engine = _find_engine(generator, direction) if named else generator
        self.spec = self.engine.spec
        self.size, self.tile = size, tile
        trained = (self.spec.in_range, self.spec.out_range)
        ranges = [Range(*ends) if ends else None for ends in trained]
        self.source, self.target = (value_range or it for it in ranges)
        self._said_tiles = self._said_size = False

    def __call__(self, image):
        """Translate an image or array into one of the same size, kind and depth.

        Args:
            image: a Pillow image of any mode, or an array (H, W), (H, W, 1) or (H, W, C), or a
                batch of them with N in front (four dimensions). Bytes may have transparency as a
                fourth channel. Whole numbers of more bits fill the range of their type, fractions
                reach from 0 to 1, unless the generator or `value_range` says otherwise.

        Returns RGB, or gray where the target domain is gray, with the transparency of the input.
        RGB images of Pillow's have 8 bits. Arrays have their channels last; gray ones have none, or
        1 in a batch.

        Raises:
            ValueError: an array of another shape or type, a picture's name, or a result that Pillow
                has no image for.
        """
        if isinstance(image, Image.Image):
            if self.spec.out_channels not in (1, 3):
                raise ValueError(f"{self.spec.out_channels} bands are no image: give an array")
            picture = self._opened(image)
            if picture.depth and self.spec.out_channels == 3:  # of which Pillow has no deep image
                picture.depth = EIGHT_BITS
            result = self._results([picture])[0]
            return result if isinstance(result, Image.Image) else Image.fromarray(result)
        if isinstance(image, str | PathLike):
            raise ValueError(f"give the picture, not its name: Image.open({str(image)!r})")
        array = np.asarray(image)
        if array.ndim < 4:
            return np.asarray(self._results([self._from_array(array)])[0])
        if not len(array):
            raise ValueError("a batch of no images")
        results = [np.asarray(it) for it in self._results(map(self._from_array, array))]
        return np.stack([r[..., None] if r.ndim == 2 else r for r in results])

    def _opened(self, image):
        """Turn an image of Pillow's into a picture."""
        channels = self.spec.in_channels
        values = deep_values(image, channels)
        if values is None:
            return Picture(*split_alpha(image, channels))
        return deep_picture(values, channels, self.source or _full(values), self.target)

    def _from_array(self, array):
        """Turn an array into a picture."""
        channels = self.spec.in_channels
        if array.ndim == 2:
            array = array[..., None]
        bands = {channels, 1, 3}
        if array.dtype == np.uint8 and channels in (1, 3):
            bands.add(4)
        if array.ndim != 3 or array.shape[2] not in bands or not array.size:
            raise ValueError(
                f"an image is (H, W) or (H, W, C), C one of {sorted(bands)}, not {array.shape}; a "
                f"batch has N in front"
            )
        if array.dtype.kind not in "uif":
            raise ValueError(f"pixels must be numbers, not {array.dtype}")
        if array.dtype == np.uint8 and channels in (1, 3):
            image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
            return Picture(*split_alpha(image, channels))
        try:
            return deep_picture(array, channels, self.source or _full(array), self.target)
        except OSError as error:
            raise ValueError(f"an array {array.shape} {error}") from error

    def _results(self, pictures):
        """Translate pictures of one size: into images, or arrays (H, W) or (H, W, C) if deep."""
        pictures = list(pictures)
        outputs = self.pixels(np.stack([self.prepare(picture.image) for picture in pictures]))
        results = []
        for picture, output in zip(pictures, outputs):
            result = self.finish(output, picture)
            if isinstance(result, Image.Image):
                results.append(with_alpha(result, picture.alpha))
            else:
                results.append((picture.depth or EIGHT_BITS).values(result))
        return results

    def prepare(self, image: AnyImage) -> np.ndarray:
        """Turn an image into what the generator takes: (C, h, w) in [-1, 1], resized.

        Args:
            image: of the generator's channels.

        Raises:
            MemoryError: even tiles would need more memory than is free.
        """
        size = self._working_size(size_of(image))
        needed = (_TILED_BYTES_PER_CHANNEL * self.spec.width + 40) * size[0] * size[1]
        free = free_memory()
        if needed > free:
            raise MemoryError(
                f"{size[0]}x{size[1]} pixels need about {needed / 1e9:.0f} GB of memory, "
                f"{free / 1e9:.0f} are free"
            )
        if self.spec.resized and not self._said_size:
            self._say_size(size_of(image), size)
        return to_chw(resized(image, size))

    def _working_size(self, size):
        """Return the width and height at which an image is computed."""
        if not self.size:
            return size
        factor = self.size / min(size)
        width, height = (max(1, round(extent * factor)) for extent in size)
        return width, height

    def effort(self, size: tuple[int, int]) -> float:
        """Return how long an image takes compared with others, roughly.

        Measured (CPU, width 64): a pixel takes four times as long in tiles; one that is only read
        and written takes a hundredth.

        Args:
            size: its width and height.
        """
        width, height = self._working_size(size)
        return width * height * (4 if self._tile_for(1, height, width) else 1) + (
            size[0] * size[1] / 100
        )

    def _say_size(self, own, size):
        """Say that an image is far from the size of the training, or small for its own."""
        trained, enlarged = self.spec.image_size, max(own) / max(size)
        if min(size) > 2 * trained:
            words = f"translated at {size[0]}x{size[1]}, trained at {trained} pixels"
            log.info("%s: --size %d may look better", words, trained)
        elif enlarged > _SOFT and min(size) <= trained:
            words = f"computed at {size[0]}x{size[1]} and enlarged {enlarged:.0f} times"
            larger = min(trained if min(size) < trained else 2 * trained, min(own))
            known = "" if larger <= trained else f", if less like its training at {trained}"
            log.info("%s, so it is soft: --size %d is sharper%s", words, larger, known)
        else:
            return
        self._said_size = True

    def finish(self, pixels: np.ndarray, picture: Picture) -> AnyImage:
        """Turn (C, h, w) in [-1, 1] into the result for a picture, of its size.

        An image where that is one of 8 bits, gray or RGB; else (C, H, W) in [-1, 1].
        """
        deep = picture.depth is not None or len(pixels) not in (1, 3)
        return resized(pixels if deep else from_chw(pixels), picture.size)

    def pixels(
        self, pixels: np.ndarray, progress: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """Translate (N, C, H, W) in [-1, 1], any H and W; return the same height and width.

        Args:
            pixels: the images.
            progress: called with the share of an image that is done, 0 to 1, if it is computed in
                tiles.
        """
        height, width = pixels.shape[2:]
        # The generator halves sizes twice, and its first layer reflects 3 pixels: pad to a multiple
        # of 4, at least 8, mirroring (as often as it takes for images of a few pixels).
        padded = [max(8, -(-extent // 4) * 4) - extent for extent in (height, width)]
        edges = [(0, 0), (0, 0)] + [(extra // 2, extra - extra // 2) for extra in padded]
        pixels = np.pad(pixels, edges, mode="symmetric")
        tile = self._tile_for(len(pixels), *pixels.shape[2:])
        if tile and not self.tile and not self._said_tiles:
            self._said_tiles = True
            size = f"{pixels.shape[3]}x{pixels.shape[2]}"
            log.info("images as large as %s pixels are computed in tiles", size)
        if tile:
            tiled = [translate_tiled(self._cell, image[None], tile, progress) for image in pixels]
            output = np.concatenate(tiled)
        else:
            output = self.engine(pixels)
        top, left = edges[2][0], edges[3][0]
        return output[:, :, top : top + height, left : left + width]

    @cached_property
    def _cell(self):
        """The generator for tiles, which an exported file has to be rebuilt for."""
        return self.engine.to_mindspore()

    def _tile_for(self, count, height, width):
        """Return the side of tiles for images of one size, or 0 for none."""
        longest, area = max(height, width), height * width
        if self.tile:
            return self.tile if longest > self.tile else 0
        values = self.spec.width * count * area
        enough = _BYTES_PER_CHANNEL * values < 0.8 * free_memory()
        if ms.get_context("device_target") == "CPU":
            # A convolution whose output is beyond 2 GB did not come back within minutes either.
            enough = enough and 4 * values < 2**31 and area <= LARGEST_ON_CPU
        return 0 if enough or longest <= AUTOMATIC_TILE else AUTOMATIC_TILE


def _find_engine(checkpoint, direction):
    """Find the generator of a direction, see `Translator`."""
    guard_onednn()
    checkpoint = find_weights(checkpoint, "checkpoint")
    files = [checkpoint]
    if checkpoint.is_dir():
        files = [path for name in GENERATOR_FILES.values() if (path := checkpoint / name).is_file()]
    if not files:
        raise no_run(checkpoint, GENERATOR_FILES["a2b"])
    found = [
        read_engine(path, direction if direction in GENERATOR_FILES else None) for path in files
    ]
    if direction is None and len(found) == 1:
        return found[0][1]()
    # By a2b and b2a first: domains may be called a and b, in either order.
    for word in ("direction", "name"):
        for spec, make in found:
            if direction == getattr(spec, word):
                return make()
    offered = dict.fromkeys(word for spec, _ in found for word in (spec.direction, spec.name))
    fault = f"does not translate {direction}" if direction else "translates in two directions"
    raise UserError(f"{checkpoint} {fault}; --direction can be {', '.join(offered)}")


def _full(values):
    """Return the range of an array's type: all of it for whole numbers, 0 to 1 for fractions."""
    if values.dtype.kind not in "iu":
        return Range(0, 1)
    ends = np.iinfo(values.dtype)
    return Range(float(ends.min), float(ends.max))
