"""The eye of an evaluation: what EfficientNet-Lite0, which has never seen the task, sees."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

import mindspore as ms

from cyclegan_ms.evaluate.features import batches
from cyclegan_ms.model.efficientnet import FEATURES, SIDE, EfficientNetLite0
from cyclegan_ms.weights.imagenet import imagenet_state

__all__ = ["EfficientNet"]


class EfficientNet:
    """The features that it sees in pictures, and its first guesses of what they show.

    Raises:
        UserError: its package is not installed.
    """

    name = "EfficientNet-Lite0"
    height = width = SIDE
    dimensions = FEATURES
    batch = 8

    def __init__(self):
        state = imagenet_state()
        self.network = EfficientNetLite0(state)
        self.head = (state["_fc.weight"].T.astype(np.float64), state["_fc.bias"])

    def __call__(self, images: Iterable[Image.Image]) -> np.ndarray:
        """Return the features (N, 1280) of N pictures of any size, RGB or gray."""
        results = [np.zeros((0, FEATURES), np.float32)]
        for pixels in batches(images, self.batch, SIDE, SIDE):
            count = len(pixels)
            filled = ((0, self.batch - count), (0, 0), (0, 0), (0, 0))  # one size to compile
            full = ms.Tensor(np.pad(pixels, filled))
            results.append(self.network(full).asnumpy()[:count])
        return np.concatenate(results)

    def guesses(self, features: np.ndarray) -> np.ndarray:
        """Return the class of ImageNet, 0 to 999, that each of features (N, 1280) speaks for."""
        weights, bias = self.head
        return (features @ weights + bias).argmax(axis=1)
