"""The official tutorial's networks as its code stands, quirk by quirk, under its parameter names.

They reproduce that notebook's numbers and load its checkpoints; `networks.py` is what its text
describes. The quirks, in both networks unless said otherwise:

- one residual block, with one set of weights, applied `blocks` times (generator);
- batch normalisation that never leaves inference mode: with the initial moving statistics it
  divides by sqrt(1 + 1e-5) and does nothing else;
- zero padding; transposed convolutions with `same` padding, one pixel off the PyTorch reference;
- LeakyReLU with slope 0.2 in the generator's stem, down and up stages, ReLU only in its block;
- no bias in the generator's last and the discriminator's first and last convolution; elsewhere
  MindSpore's default initial biases, which are not zero.
"""

import mindspore as ms
from mindspore import nn
from mindspore.common.initializer import Normal

from cyclegan_ms.model.convolutions import Conv2d, Conv2dTranspose
from cyclegan_ms.model.layers import Fork, Join, Layer, Tanh

__all__ = ["TutorialDiscriminator", "TutorialGenerator"]


def _weights():
    return {"weight_init": Normal(0.02)}


def _conv(c_in, c_out, kernel, stride, padding, bias=True):
    return Conv2d(c_in, c_out, kernel, stride, padding, has_bias=bias, **_weights())


class TutorialStage(nn.Cell):
    """A convolution, a normalisation that changes nothing, and an optional activation."""

    def __init__(self, conv, channels, activation):
        super().__init__()
        # `use_batch_statistics=False` keeps it in inference mode whatever `set_train` says, which
        # is what the notebook gets by never calling `set_train`.
        norm = nn.BatchNorm2d(channels, affine=False, use_batch_statistics=False)
        layers = [conv, norm] + ([activation] if activation else [])
        self.features = nn.SequentialCell(layers)

    def parts(self) -> list[nn.Cell]:
        """List the cells in the order they are applied."""
        return [self.features]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.features(x)


class TutorialBlock(nn.Cell):
    """x + F(x), F being two zero-padded 3x3 convolutions."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = TutorialStage(_conv(channels, channels, 3, 1, 1), channels, nn.ReLU())
        self.conv2 = TutorialStage(_conv(channels, channels, 3, 1, 1), channels, None)

    def parts(self) -> list[nn.Cell | Layer]:
        """List the cells in the order they are applied."""
        return [Fork(), self.conv1, self.conv2, Join()]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return x + self.conv2(self.conv1(x))


class TutorialGenerator(nn.Cell):
    """The tutorial's generator; with width 64 it has 1,936,896 parameters to train.

    Args:
        in_channels: channels of the source images.
        out_channels: channels of the translated images.
        width: channels after the first convolution.
        blocks: how often the residual block is applied.
        shared: use one block for all applications, as the tutorial does; False gives each its own,
            for checkpoints of notebooks in which that was mended.

    Input (N, in_channels, H, W) in [-1, 1], H and W multiples of 4; output (N, out_channels, H, W)
    in (-1, 1).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        shared: bool = True,
    ):
        super().__init__()
        w = width

        def up(c_in, c_out):
            return Conv2dTranspose(c_in, c_out, same=True, has_bias=True, **_weights())

        self.conv_in = TutorialStage(_conv(in_channels, w, 7, 1, 3), w, nn.LeakyReLU(0.2))
        self.down_1 = TutorialStage(_conv(w, 2 * w, 3, 2, 1), 2 * w, nn.LeakyReLU(0.2))
        self.down_2 = TutorialStage(_conv(2 * w, 4 * w, 3, 2, 1), 4 * w, nn.LeakyReLU(0.2))
        own = [TutorialBlock(4 * w) for _ in range(1 if shared else blocks)]
        self.residuals = nn.SequentialCell(own * blocks if shared else own)
        self.up_2 = TutorialStage(up(4 * w, 2 * w), 2 * w, nn.LeakyReLU(0.2))
        self.up_1 = TutorialStage(up(2 * w, w), w, nn.LeakyReLU(0.2))
        self.conv_out = _conv(w, out_channels, 7, 1, 3, bias=False)
        self.tanh = Tanh()

    def parts(self) -> list[nn.Cell]:
        """List the cells in the order they are applied."""
        stages = [self.conv_in, self.down_1, self.down_2, self.residuals, self.up_2, self.up_1]
        return [*stages, self.conv_out, self.tanh]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.down_2(self.down_1(self.conv_in(x)))  # (N, 4w, H/4, W/4)
        x = self.up_1(self.up_2(self.residuals(x)))  # (N, w, H, W)
        return self.tanh(self.conv_out(x))


class TutorialDiscriminator(nn.Cell):
    """The tutorial's discriminator: the layers of `PatchGANDiscriminator`, with its quirks.

    Input (N, in_channels, H, W) in [-1, 1]; output (N, 1, H/8 - 2, W/8 - 2), unbounded.
    """

    def __init__(self, in_channels: int = 3, width: int = 64):
        super().__init__()
        w = width
        stages = [
            TutorialStage(_conv(c, 2 * c, 4, stride, 1), 2 * c, nn.LeakyReLU(0.2))
            for c, stride in ((w, 2), (2 * w, 2), (4 * w, 1))
        ]
        self.features = nn.SequentialCell(
            _conv(in_channels, w, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            *stages,
            _conv(8 * w, 1, 4, 1, 1, bias=False),
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.features(x)
