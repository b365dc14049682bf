"""The paper's networks: `ResNetGenerator` and `PatchGANDiscriminator`.

Layers are listed in the order of the published PyTorch reference, so that parameter names
(`model.1.weight`, `model.10.conv_block.1.weight`, ...) mean the same layer in both frameworks.
"""

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal

from cyclegan_ms.model.convolutions import Conv2d, Conv2dTranspose, ResizeConv2d
from cyclegan_ms.model.layers import Fork, InstanceNorm, Join, Layer, ReLU, Tanh

__all__ = ["UPSAMPLE", "Bounded", "PatchGANDiscriminator", "ResNetGenerator", "ResidualBlock"]


def _start(gain, normalised=True):
    start = {"weight_init": Normal(gain), "bias_init": "zeros"}
    return {"has_bias": True, "normalised": normalised, **start}


def _conv(c_in, c_out, kernel, stride=1, padding=0, *, gain, normalised=True):
    return Conv2d(c_in, c_out, kernel, stride, padding, **_start(gain, normalised))


UPSAMPLE = {"transposed": Conv2dTranspose, "resize": ResizeConv2d}
"""Ways to double height and width, (N, C, H, W) to (N, C', 2H, 2W), by name."""


class ResidualBlock(nn.Cell):
    """x + F(x), F being two reflect-padded 3x3 convolutions (Johnson et al. 2016).

    (N, C, H, W) to the same shape; H and W at least 2.

    Args:
        channels: C.
        gain: standard deviation of the initial weights.
        like: another block whose parameter-free layers are reused: Graph mode compiles every
            separate instance.
    """

    def __init__(self, channels: int, gain: float = 0.02, like: "ResidualBlock | None" = None):
        super().__init__()
        if like is None:
            pad, norm, relu = nn.ReflectionPad2d(1), InstanceNorm(channels), ReLU()
        else:
            layers: nn.SequentialCell = like.conv_block
            pad, _, norm, relu, *_ = layers
        first, second = (Conv2d(channels, channels, 3, **_start(gain)) for _ in range(2))
        self.conv_block: nn.SequentialCell = nn.SequentialCell(
            pad, first, norm, relu, pad, second, norm
        )

    def parts(self) -> list[nn.Cell | Layer]:
        """List the cells in the order they are applied."""
        return [Fork(), self.conv_block, Join()]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return x + self.conv_block(x)


class ResNetGenerator(nn.Cell):
    """Translate images of one domain into the other (CycleGAN paper, section 7.2).

    c7s1-w, d2w, d4w, R4w x blocks, u2w, uw, c7s1-out. With 9 blocks and width 64 it has
    11,378,179 parameters. Weights start as N(0, init_gain), biases as 0.

    Args:
        in_channels: channels of the source images.
        out_channels: channels of the translated images.
        width: channels after the first convolution (64 in the paper).
        blocks: residual blocks, each with weights of its own (the paper: 9, or 6 at 128 pixels).
        init_gain: standard deviation of the initial weights.
        upsample: one of `UPSAMPLE`; the paper's is transposed.

    Input (N, in_channels, H, W) in [-1, 1], H and W multiples of 4 and at least 8.
    Output (N, out_channels, H, W) in (-1, 1).

    Raises:
        ValueError: a size is not a positive number, or no such upsampling is known.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        init_gain: float = 0.02,
        upsample: str = "transposed",
    ):
        super().__init__()
        if min(in_channels, out_channels, width, blocks) < 1:
            raise ValueError("in_channels, out_channels, width and blocks must be at least 1")
        if upsample not in UPSAMPLE:
            raise ValueError(f"upsample must be one of {', '.join(UPSAMPLE)}, not {upsample}")
        w, gain, larger = width, init_gain, UPSAMPLE[upsample]
        residual = [ResidualBlock(4 * w, gain)]
        residual += [ResidualBlock(4 * w, gain, residual[0]) for _ in range(blocks - 1)]
        self.model = nn.SequentialCell(
            nn.ReflectionPad2d(3),
            _conv(in_channels, w, 7, gain=gain),  # (N, w, H, W)
            InstanceNorm(w),
            ReLU(),
            _conv(w, 2 * w, 3, 2, 1, gain=gain),  # (N, 2w, H/2, W/2)
            InstanceNorm(2 * w),
            ReLU(),
            _conv(2 * w, 4 * w, 3, 2, 1, gain=gain),  # (N, 4w, H/4, W/4)
            InstanceNorm(4 * w),
            ReLU(),
            *residual,
            larger(4 * w, 2 * w, **_start(gain)),  # (N, 2w, H/2, W/2)
            InstanceNorm(2 * w),
            ReLU(),
            larger(2 * w, w, **_start(gain)),  # (N, w, H, W)
            InstanceNorm(w),
            ReLU(),
            nn.ReflectionPad2d(3),
            _conv(w, out_channels, 7, gain=gain, normalised=False),  # (N, out_channels, H, W)
        )
        self.tanh = Tanh()

    def parts(self) -> list[nn.Cell]:
        """List the cells in the order they are applied."""
        return [*self.model, self.tanh]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.tanh(self.model(x))


_POWER = 4.0
"""Mean square over channels, of normalised values, from which a pixel counts as a spike."""


class _Spikes(nn.Cell):
    """x to itself and half the share of its variance that is in spikes, mean(max(0, q - 4)) / 2.

    x (N, C, H, W) is normalised, so that q (N, 1, H, W), the mean of x^2 over channels, is 1 on
    average.
    """

    def construct(self, x):
        return x, 0.5 * ops.relu(self._power(x) - _POWER).mean()

    def bprop(self, x, out, dout):
        over = x.astype(ms.float32) * (self._power(x) > _POWER).astype(ms.float32)
        # Mixed precision may give the gradients of both outputs different types, and MindSpore
        # refuses to add those by itself.
        return ((dout[0].astype(ms.float32) + dout[1] * over / x.size).astype(x.dtype),)

    def _power(self, x):
        x = x.astype(ms.float32)
        return (x * x).mean(1, keep_dims=True)


class Bounded(nn.Cell):
    """A generator that also tells how far its values are beyond what pictures need.

    A spike rules the statistics by which instance normalisation scales all other pixels, so that
    generators learn to make one (Karras et al. 2020, section 2). It ends as a dark or a bright
    blot, which cannot be trained away any more where the tanh has no gradient.

    Args:
        generator: a `ResNetGenerator`, whose weights this shares.

    Input as the generator's. Outputs its output, and half the sum of mean(max(0, |z| - 3)^2) over
    the values z before the tanh, whose tanh is 0.995 at 3, and of mean(max(0, q - 4)) over the
    pixels behind the normalisation of each enlarging layer, q being the mean of their squares over
    channels, which is 1 on average.
    """

    def __init__(self, generator: ResNetGenerator):
        super().__init__(auto_prefix=False)
        layers, before = [], None
        for layer in generator.model:
            layers.append(layer)
            if isinstance(before, tuple(UPSAMPLE.values())):
                layers.append(_Spikes())
            before = layer
        self.layers, self.tanh = nn.CellList(layers, auto_prefix=False), generator.tanh

    def construct(self, x: ms.Tensor):
        penalty = 0.0
        for layer in self.layers:
            if isinstance(layer, _Spikes):
                x, more = layer(x)
                penalty = penalty + more
            else:
                x = layer(x)
        beyond = ops.relu(ops.abs(x.astype(ms.float32)) - 3.0)
        return self.tanh(x), penalty + 0.5 * (beyond * beyond).mean()


class PatchGANDiscriminator(nn.Cell):
    """Judge each 70x70 patch of an image as real or fake (CycleGAN paper, section 7.2).

    C64-C128-C256-C512 and a convolution to one channel, without a sigmoid: the losses take logits.
    With width 64 it has 2,764,737 parameters, and 256x256 pixels become a 30x30 map.

    Args:
        in_channels: channels of the images it judges.
        width: channels after the first convolution (64 in the paper).
        init_gain: standard deviation of the initial weights.

    Input (N, in_channels, H, W) in [-1, 1], H and W at least 24.
    Output (N, 1, H/8 - 2, W/8 - 2), unbounded.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, init_gain: float = 0.02):
        super().__init__()
        if min(in_channels, width) < 1:
            raise ValueError("in_channels and width must be at least 1")
        w, gain = width, init_gain
        self.model = nn.SequentialCell(
            _conv(in_channels, w, 4, 2, 1, gain=gain, normalised=False),  # (N, w, H/2, W/2)
            nn.LeakyReLU(0.2),
            _conv(w, 2 * w, 4, 2, 1, gain=gain),  # (N, 2w, H/4, W/4)
            InstanceNorm(2 * w),
            nn.LeakyReLU(0.2),
            _conv(2 * w, 4 * w, 4, 2, 1, gain=gain),  # (N, 4w, H/8, W/8)
            InstanceNorm(4 * w),
            nn.LeakyReLU(0.2),
            _conv(4 * w, 8 * w, 4, 1, 1, gain=gain),  # (N, 8w, H/8 - 1, W/8 - 1)
            InstanceNorm(8 * w),
            nn.LeakyReLU(0.2),
            _conv(8 * w, 1, 4, 1, 1, gain=gain, normalised=False),  # (N, 1, H/8 - 2, W/8 - 2)
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.model(x)
