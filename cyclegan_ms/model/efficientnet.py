"""EfficientNet-Lite0, an ImageNet network that sees pictures without having seen the task.

Tan and Le 2019, in the Lite variant that its authors published in 2020: ReLU6 and no squeezing and
excitation. Its weights are `weights.imagenet`'s. Nothing here can be trained.
"""

from itertools import pairwise

import numpy as np

import mindspore as ms
from mindspore import nn, ops

__all__ = ["FEATURES", "SIDE", "EfficientNetLite0", "Maps"]

SIDE = 224
"""Of the pictures that it was trained on, in pixels."""
FEATURES = 1280
"""Number of its pooled features."""

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

    Args:
        state: its weights, by their names in the published PyTorch file.

    Input RGB in [-1, 1], in which 0 is a level of 127.5; other sizes are taken too.
    """

    def __init__(self, state: dict[str, np.ndarray]):
        super().__init__()
        blocks, c_in = [], _STEM
        for expansion, kernel, stride, c_out, count in _STAGES:
            for index in range(count):
                blocks.append(_Block(c_in, c_out, expansion, kernel, 1 if index else stride))
                c_in = c_out
        self.layers = nn.SequentialCell(
            _Convolution(3, _STEM, 3, 2), *blocks, _Convolution(c_in, FEATURES, 1)
        )
        _fill(self, state)
        self.set_train(False)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return ops.mean(self.layers(_levels(x)), (2, 3))


class Maps(nn.Cell):
    """What a network sees at strides of 4, 8, 16 and 32: (N, 3, H, W) in [-1, 1] to four maps.

    (N, 24, H/4, W/4), (N, 40, H/8, W/8), (N, 112, H/16, W/16), (N, 320, H/32, W/32), rounded up.
    """

    channels = (24, 40, 112, 320)

    def __init__(self, network: EfficientNetLite0):
        super().__init__()
        layers = list(network.layers)
        ends = (0, 4, 6, 12, 17)  # the last block before each halving
        parts = [nn.SequentialCell(*layers[start:end]) for start, end in pairwise(ends)]
        self.first, self.second, self.third, self.fourth = parts
        self.set_train(False)

    def construct(self, x: ms.Tensor):
        a = self.first(_levels(x))
        b = self.second(a)
        c = self.third(b)
        return a, b, c, self.fourth(c)


def _levels(x):
    """Turn [-1, 1] into (bytes - 127) / 128, which it was trained on."""
    return x * (127.5 / 128) + 0.5 / 128


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
            parameter.requires_grad = False
