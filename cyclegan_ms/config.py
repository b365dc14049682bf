"""The typed configuration: YAML and command line in, checked values out. Imports no MindSpore.

jsonargparse does the work: one declaration per key gives the YAML schema, the dotted flag, the
type and range check and the help text. The field docstrings below are what `--help` prints.
"""

import difflib
import json
import re
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
)

from cyclegan_ms.files import atomic_path

__all__ = [
    "Config",
    "DataConfig",
    "DeviceConfig",
    "LossConfig",
    "ModelConfig",
    "Parser",
    "TrainConfig",
    "UserError",
    "build_config",
    "config_parser",
    "config_values",
    "load_config",
    "save_config",
]

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class UserError(Exception):
    """A mistake that the user can mend: one or two lines saying what, where and what to do."""


@dataclass(frozen=True)
class DataConfig:
    """the images"""

    root: str = "data/apple2orange"
    """folder with trainA, trainB, testA, testB, or a MindRecord file"""
    domains: list[str] = field(default_factory=lambda: ["apple", "orange"])
    """names of the domains A and B"""
    load_size: PositiveInt = 286
    """every image is resized to this square, in pixels, before cropping"""
    crop_size: PositiveInt = 256
    """side of the random crop that the networks see, in pixels, a multiple of 4"""
    flip: bool = True
    """mirror half of the images"""
    batch_size: PositiveInt = 1
    """images of each domain per step, on each device"""
    workers: NonNegativeInt = 0
    """threads that decode images; 0 takes one per core, up to 8"""
    max_images: NonNegativeInt = 0
    """use only so many images per domain; 0 takes all"""


@dataclass(frozen=True)
class ModelConfig:
    """the networks"""

    variant: Literal["paper", "tutorial"] = "paper"
    """paper: the CycleGAN paper; tutorial: the published notebook's code with all its quirks"""
    blocks: PositiveInt | None = None
    """residual blocks of a generator; null takes 9, or 6 where data.crop_size is 128 or less"""
    width: PositiveInt = 64
    """channels after the first convolution"""
    channels_a: Literal[1, 3] = 3
    """channels of domain A: 3 is RGB, 1 is gray"""
    channels_b: Literal[1, 3] = 3
    """channels of domain B"""
    init_gain: PositiveFloat = 0.02
    """standard deviation of the initial weights"""


@dataclass(frozen=True)
class LossConfig:
    """the losses"""

    gan: Literal["lsgan", "vanilla"] = "lsgan"
    """adversarial loss: least squares or cross-entropy"""
    lambda_a: NonNegativeFloat = 10.0
    """weight of the cycle A to B to A"""
    lambda_b: NonNegativeFloat = 10.0
    """weight of the cycle B to A to B"""
    lambda_identity: NonNegativeFloat = 0.5
    """weight of the identity terms relative to the cycle's; 0 saves their time"""


@dataclass(frozen=True)
class TrainConfig:
    """the training"""

    epochs: PositiveInt = 200
    """whole length"""
    decay_epochs: NonNegativeInt | None = None
    """over the last so many of the epochs the learning rate falls linearly to zero; null takes half
    of them"""
    learning_rate: PositiveFloat = 2e-4
    """of Adam, for all networks"""
    beta1: OpenUnitInterval = 0.5
    """of Adam"""
    pool_size: NonNegativeInt = 50
    """past fakes kept per domain for the discriminators; 0 shows them only the newest"""
    seed: NonNegativeInt = 0
    """of weights, data order, augmentation and pools"""
    max_steps: NonNegativeInt = 0
    """end after so many steps, for trials; 0 trains the whole length"""
    log_every: PositiveInt = 20
    """steps between lines of metrics.jsonl"""
    save_every: PositiveInt = 20
    """epochs between generators that are kept"""
    sample_every: NonNegativeInt = 1
    """epochs between sample pictures of test images; 0 draws none"""
    evaluate_every: NonNegativeInt = 0
    """epochs between evaluations on test images, which also keep the generators whose cycle is best
    (needs scikit-image); 0 makes none"""
    keep: PositiveInt = 2
    """complete states to keep"""
    state_minutes: NonNegativeFloat = 15.0
    """save a complete state when the last one is older, besides after every epoch"""
    tensorboard: bool = False
    """write metrics and sample pictures for TensorBoard too (needs tensorboardX)"""


@dataclass(frozen=True)
class DeviceConfig:
    """the device"""

    target: Literal["auto", "Ascend", "GPU", "CPU"] = "auto"
    """auto takes Ascend, then GPU, then CPU"""
    mode: Literal["graph", "pynative"] = "graph"
    """graph compiles first and is faster; pynative starts at once and can be debugged"""
    id: NonNegativeInt = 0
    """which device of the target"""
    amp: Literal["O0", "O2", "bf16"] = "O0"
    """O0 computes in float32, O2 in float16 with a loss scale, bf16 in bfloat16 (Ascend only)"""


@dataclass(frozen=True)
class Config:
    """All settings of a run; values that depend on each other are filled in and checked here.

    Raises:
        UserError: a combination of values that cannot work, naming the keys.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)

    def __post_init__(self):
        data, model, train = self.data, self.model, self.train
        if len(data.domains) != 2 or data.domains[0] == data.domains[1] or "" in data.domains:
            raise UserError(
                f"data.domains needs two different names, such as [apple, orange], "
                f"not {list(data.domains)}"
            )
        if data.crop_size % 4 or data.crop_size < 32:
            raise UserError(
                f"data.crop_size must be a multiple of 4 and at least 32, not {data.crop_size}"
            )
        if data.load_size < data.crop_size:
            raise UserError(
                f"data.load_size ({data.load_size}) is smaller than data.crop_size "
                f"({data.crop_size}); the paper's ratio would be {data.crop_size * 286 // 256}"
            )
        if train.seed >= 2**32:
            raise UserError(f"train.seed must be less than 2**32, not {train.seed}")
        if train.decay_epochs is None:
            train = replace(train, decay_epochs=train.epochs // 2)
        if model.blocks is None:
            model = replace(model, blocks=6 if data.crop_size <= 128 else 9)  # section 7.2
        if model.variant == "tutorial":
            self._check_tutorial(train)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "train", train)
        if train.decay_epochs > train.epochs:
            raise UserError(
                f"train.decay_epochs ({train.decay_epochs}) is more than train.epochs "
                f"({train.epochs}), the whole length"
            )
        if self.loss.lambda_identity and model.channels_a != model.channels_b:
            raise UserError(
                "loss.lambda_identity must be 0 where model.channels_a and model.channels_b "
                "differ: a generator cannot take its own target domain then"
            )

    def _check_tutorial(self, train):
        fixed = {
            "train.pool_size": (train.pool_size, 0),
            "train.decay_epochs": (train.decay_epochs, 0),
            "loss.gan": (self.loss.gan, "lsgan"),
            "model.init_gain": (self.model.init_gain, 0.02),
            "device.amp": (self.device.amp, "O0"),
        }
        for key, (value, needed) in fixed.items():
            if value != needed:
                raise UserError(
                    f"model.variant tutorial needs {key} {needed}, not {value}: the notebook's "
                    f"code has it so (configs/apple2orange_tutorial.yaml sets all of it)"
                )


SECTIONS = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "train": TrainConfig,
    "device": DeviceConfig,
}


_WORDS = {
    "Parser key ": "",
    "a typing.Literal": "one of ",
    "a <class 'list'>": "a list, such as [one, two]",
    "Unexpected config:": "the configuration holds no settings",
}
"""jsonargparse's words, and what users are told"""


class Parser(ArgumentParser):
    """An argument parser whose errors are one or two lines, without the list of all flags."""

    quit = True
    """whether an error ends the program with status 2, or raises UserError"""

    def error(self, message, ex=None):
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        text = " ".join(lines)
        for theirs, ours in _WORDS.items():
            text = text.replace(theirs, ours)
        text += self._suggestion(text)
        if not self.quit:
            raise UserError(f"{self.prog}: {text}")
        print(f"{self.prog}: error: {text}", file=sys.stderr)
        sys.exit(2)

    def _suggestion(self, text):
        """What a mistyped key may have meant, or nothing."""
        unknown = re.search(r"unrecognized arguments: --([\w.]+)", text)
        unknown = unknown or re.search(r"Option '([\w.]+)' is not accepted", text)
        group = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
        if not (unknown or group):
            return ""
        key = unknown[1] if unknown else f"{group[1]}.{group[2]}"
        known = [action.dest for action in self._actions]
        close = difflib.get_close_matches(key, known, 1, 0.7)
        return f"; did you mean {close[0]}?" if close else f"; {self.prog} --help lists all keys"


def config_parser(prog: str, description: str) -> Parser:
    """A parser that takes `--config FILE` and every key of the configuration as a dotted flag."""
    usage = "%(prog)s [--config FILE] [--section.key VALUE ...]"
    parser = Parser(prog=prog, usage=usage, description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file; later flags override it")
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
    return parser


def build_config(args: Namespace) -> Config:
    """Parsed arguments to a checked configuration.

    Raises:
        UserError: a combination of values that cannot work.
    """
    # Through JSON: jsonargparse's checked numbers are subclasses of int and float.
    values = {name: json.loads(json.dumps(vars(args[name]))) for name in SECTIONS}
    return Config(**{name: section(**values[name]) for name, section in SECTIONS.items()})


def load_config(path) -> Config:
    """The configuration in a YAML file.

    Raises:
        UserError: the file is missing or holds an unknown key or a bad value.
    """
    parser = config_parser(str(path), "")
    parser.quit = False
    return build_config(parser.parse_args([f"--config={path}"]))


def config_values(config: Config) -> dict:
    """Every value by its dotted key."""
    return {
        f"{section}.{key}": value
        for section, values in asdict(config).items()
        for key, value in values.items()
    }


def save_config(config: Config, path) -> None:
    """Write the resolved configuration, enough to run it again."""
    text = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
