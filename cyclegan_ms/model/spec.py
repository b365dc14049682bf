"""What a generator is, in a few plain values, and the one place where networks are built."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from mindspore import nn

from cyclegan_ms.errors import UserError
from cyclegan_ms.model.networks import UPSAMPLE, PatchGANDiscriminator, ResNetGenerator
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
    """shorter side of whole pictures, in pixels, at which they look as those it was trained on"""
    epoch: int = 0
    """number of the epoch that it was trained in"""
    upsample: str = "transposed"
    """how it doubles height and width"""
    ema: float = 0.0
    """decay of the average that its weights are; 0 if they are none"""
    resized: bool = True
    """whether the images it was trained on were parts of pictures resized to about that side"""
    in_range: tuple[float, float] | None = None
    """values that were -1 and 1 in pictures of more than 8 bits of its source domain, if any"""
    out_range: tuple[float, float] | None = None
    """the same of its target domain"""

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
            image_size: shorter side of whole pictures, in pixels, as they were in training.
            epoch: number of the epoch that it was trained in.
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
            UserError: the text is something else, or describes no generator.
        """
        try:
            stored = json.loads(text)
            pairs = ["domains"]
            pairs += [key for key in ("in_range", "out_range") if stored.get(key) is not None]
            spec = cls(**stored | {key: tuple(stored[key]) for key in pairs})
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: of another version of cyclegan_ms, or damaged") from error
        spec.check(f"{path}: its description is damaged")
        return spec

    def check(self, trouble: str) -> None:
        """Raise UserError, beginning with `trouble`, if this cannot describe a generator."""
        if fault := self._fault():
            raise UserError(f"{trouble}: {fault}")

    def _fault(self) -> str:
        """Say what is wrong with the description; nothing if all is right."""
        numbers = {
            "in_channels": (1, 1024),
            "out_channels": (1, 1024),
            "width": (1, 4096),
            "blocks": (1, 1024),
            "image_size": (1, 2**20),
            "epoch": (0, 2**31),
        }
        for key, (least, most) in numbers.items():
            value = getattr(self, key)
            if type(value) is not int or not least <= value <= most:
                return f"{key} {str(value)[:40]!r} is not a whole number from {least} to {most}"
        if not isinstance(self.ema, int | float) or not 0 <= self.ema < 1:
            return f"ema {str(self.ema)[:40]!r} is not a number from 0 to 1"
        if self.direction not in ("a2b", "b2a"):
            return f"direction {str(self.direction)[:40]!r} is neither a2b nor b2a"
        if self.variant not in ("paper", "tutorial"):
            return f"variant {str(self.variant)[:40]!r} is neither paper nor tutorial"
        ways = ("transposed",) if self.variant == "tutorial" else tuple(UPSAMPLE)
        if self.upsample not in ways:
            return f"upsample {str(self.upsample)[:40]!r} is not one of {', '.join(ways)}"
        for key in ("shared_blocks", "resized"):
            if type(getattr(self, key)) is not bool:
                return f"{key} is neither true nor false"
        for key in ("in_range", "out_range"):
            ends = getattr(self, key)
            if ends is not None and not _is_range(ends):
                return f"{key} {str(ends)[:40]!r} is not [low, high]"
        words = [name for name in self.domains if isinstance(name, str) and name]
        if len(words) != 2 or len(self.domains) != 2 or words[0] == words[1]:
            return "domains are not two different names"
        return ""

    def size(self) -> int:
        """Return the number of values in the convolutions' weights, without building anything."""
        w, blocks = self.width, 1 if self.shared_blocks else self.blocks
        ends = 49 * w * (self.in_channels + self.out_channels)
        return ends + 2 * 9 * (w * 2 * w + 2 * w * 4 * w) + blocks * 2 * 9 * (4 * w) ** 2

    def check_fits(self, values: int, path) -> None:
        """Raise UserError if a file of so many values cannot be of this generator.

        Args:
            values: number of values that the file holds.
            path: the file.
        """
        # Biases and normalisation have a few more.
        if not self.size() <= values <= 1.5 * self.size() + 10_000:
            raise UserError(
                f"{path}: its weights do not fit its own description ({values:,} values, not "
                f"{self.size():,} or a few more); the file is damaged"
            )

    def build(self, init_gain: float = 0.02) -> nn.Cell:
        """Return a generator of this description with fresh weights.

        Args:
            init_gain: standard deviation of the initial weights; the tutorial's is fixed.
        """
        shape = (self.in_channels, self.out_channels, self.width, self.blocks)
        if self.variant == "tutorial":
            return TutorialGenerator(*shape, self.shared_blocks)
        return ResNetGenerator(*shape, init_gain, self.upsample)


def _is_range(ends):
    numbers = [end for end in ends if type(end) in (int, float) and math.isfinite(end)]
    return len(ends) == len(numbers) == 2 and ends[0] < ends[1]


def build_discriminator(variant: str, channels: int, width: int, init_gain: float) -> nn.Cell:
    """Return a discriminator of a variant, `paper` or `tutorial`, with fresh weights.

    Args:
        variant: paper or tutorial.
        channels: number of channels of the images it judges.
        width: number of channels after the first convolution.
        init_gain: standard deviation of the initial weights; the tutorial's is fixed.
    """
    if variant == "tutorial":
        return TutorialDiscriminator(channels, width)
    return PatchGANDiscriminator(channels, width, init_gain)
