"""What a generator is, in a few plain values, and the one place where networks are built."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from mindspore import nn

from cyclegan_ms.errors import UserError
from cyclegan_ms.model.networks import PatchGANDiscriminator, ResNetGenerator
from cyclegan_ms.model.tutorial import TutorialDiscriminator, TutorialGenerator

__all__ = ["GeneratorSpec", "build_discriminator"]


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything needed to build a generator and to use it rightly; stored in its file."""

    direction: str
    """a2b or b2a"""
    domains: tuple[str, str]
    """names of the domains A and B"""
    in_channels: int = 3
    out_channels: int = 3
    width: int = 64
    blocks: int = 9
    variant: str = "paper"
    shared_blocks: bool = False
    """whether the tutorial's one block serves for all (tutorial variant only)"""
    image_size: int = 256
    """side of the images it was trained on, in pixels"""
    epoch: int = 0
    """number of epochs it was trained for"""

    @classmethod
    def of(
        cls, model: Mapping, direction: str, domains, image_size: int = 256, epoch: int = 0
    ) -> "GeneratorSpec":
        """Describe the generator of one direction of a model.

        Args:
            model: the model's settings: variant, channels_a, channels_b, and whatever else has a
                field of the same name here.
            direction: a2b or b2a.
            domains: names of the domains A and B.
            image_size: side of the training images, in pixels.
            epoch: number of epochs it was trained for.
        """
        channels = (model["channels_a"], model["channels_b"])
        source, target = channels if direction == "a2b" else channels[::-1]
        known = {key.name for key in fields(cls)}
        return cls(
            direction,
            tuple(domains),
            in_channels=source,
            out_channels=target,
            shared_blocks=model["variant"] == "tutorial",
            image_size=image_size,
            epoch=epoch,
            **{key: value for key, value in model.items() if key in known},
        )

    @property
    def name(self) -> str:
        """The direction in words, such as apple2orange."""
        a, b = self.domains
        return f"{a}2{b}" if self.direction == "a2b" else f"{b}2{a}"

    def to_json(self) -> str:
        """Return it as text, for a file's metadata."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, path) -> "GeneratorSpec":
        """Read what `to_json` wrote into the file `path`.

        Raises:
            UserError: it is something else.
        """
        try:
            stored = json.loads(text)
            return cls(**{**stored, "domains": tuple(stored["domains"])})
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"{path}: of another version of cyclegan_ms, or damaged") from error

    def build(self, init_gain: float = 0.02) -> nn.Cell:
        """Return a generator of this description with fresh weights.

        Args:
            init_gain: standard deviation of the initial weights; the tutorial's is fixed.
        """
        shape = (self.in_channels, self.out_channels, self.width, self.blocks)
        if self.variant == "tutorial":
            return TutorialGenerator(*shape, self.shared_blocks)
        return ResNetGenerator(*shape, init_gain)


def build_discriminator(variant: str, channels: int, width: int, init_gain: float) -> nn.Cell:
    """Return a discriminator of a variant, `paper` or `tutorial`, with fresh weights.

    Args:
        variant: whose it is.
        channels: number of channels of the images it judges.
        width: number of channels after the first convolution.
        init_gain: standard deviation of the initial weights; the tutorial's is fixed.
    """
    if variant == "tutorial":
        return TutorialDiscriminator(channels, width)
    return PatchGANDiscriminator(channels, width, init_gain)
