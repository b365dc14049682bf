"""Features of images, from any network given as an ONNX file."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
from PIL import Image

from cyclegan_ms.data.images import resized_chw
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import check_readable, shown
from cyclegan_ms.weights.engines import onnx_session

__all__ = ["FeatureNetwork", "Network", "batches"]

_BATCH = 16


class Network(Protocol):
    """What sees features in pictures."""

    name: str
    height: int
    width: int
    """of the pictures that it takes"""
    dimensions: int

    def __call__(self, images: Iterable[Image.Image]) -> np.ndarray:
        """Return the features (N, D) of N pictures of any size, RGB or gray."""


def batches(images: Iterable[Image.Image], count: int, width: int, height: int) -> Iterator:
    """Yield pictures, resized, `count` at a time: (N, 3, height, width) in [-1, 1]."""
    images = iter(images)
    while some := list(islice(images, count)):
        yield np.stack([resized_chw(image, width, height) for image in some])


class FeatureNetwork:
    """A network from an ONNX file, run by onnxruntime.

    Its one input is (N, 3, H, W) float32, RGB in [0, 1], with H and W fixed in the file and N free
    or 1. Its first output is (N, D), or (N, D, 1, 1). Images are resized to H and W with Pillow's
    bicubic filter, which looks at every pixel when it shrinks.

    Raises:
        UserError: onnxruntime is missing, or the file is no such network.
    """

    def __init__(self, path):
        check_readable(path, "--features")
        self.session = onnx_session(path)
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if inputs else ()
        fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(shape) == 4
        # The first side is a name where it is free.
        if not (fits and shape[1] == 3 and all(isinstance(side, int) for side in shape[2:])
                and (shape[0] == 1 or not isinstance(shape[0], int))):  # fmt: skip
            raise UserError(
                f"--features {path}: takes {', '.join(f'{i.type} {i.shape}' for i in inputs)}; "
                f"expected one input, tensor(float) (N, 3, H, W) with H and W fixed and N free or 1"
            )
        self.path, self.name = path, shown(path)
        self.input = inputs[0].name
        self.height, self.width = shape[2:]
        self.batch = 1 if shape[0] == 1 else _BATCH
        images = np.zeros((self.batch, 3, self.height, self.width), np.float32)
        try:
            result = self._run(images)
        except Exception as error:  # onnxruntime raises a different class for every reason
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"--features {path}: does not run on {len(images)} images: {reason}"
            ) from error
        found = result.shape if isinstance(result, np.ndarray) else type(result).__name__
        if found[:1] + found[2:] not in ((self.batch,), (self.batch, 1, 1)) or len(found) == 1:
            raise UserError(
                f"--features {path}: gives {found} for {self.batch} images; expected (N, D)"
            )
        self.dimensions = result.shape[1]

    def __call__(self, images: Iterable[Image.Image]) -> np.ndarray:
        """Return the features (N, D) of N images of any size, RGB or gray.

        Raises:
            UserError: some are not finite.
        """
        stacks = batches(images, self.batch, self.width, self.height)
        features = np.concatenate([self._run(pixels / 2 + 0.5) for pixels in stacks]).reshape(
            -1, self.dimensions
        )
        if not np.isfinite(features).all():
            raise UserError(f"--features {self.path}: gives features that are not finite")
        return features

    def _run(self, images):
        return self.session.run(None, {self.input: images})[0]
