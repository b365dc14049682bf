"""The command lines of training and inference, and what all command lines share."""

import functools
import logging
import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from cyclegan_ms.config import (
    Parser,
    UserError,
    build_config,
    config_parser,
)
from cyclegan_ms.interrupt import StopRequest

__all__ = ["command", "infer", "train"]


def command(main):
    """Make `main(argv)` a program: log to stderr, turn users' mistakes into a line and exit 2."""

    @functools.wraps(main)
    def program(argv=None) -> int:
        logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("cyclegan_ms").setLevel(logging.INFO)
        try:
            return main(argv) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return program


@command
def train(argv=None):
    """Train a CycleGAN: `cyclegan-train`, `scripts/train.py`."""
    parser = config_parser("train.py", "Train a CycleGAN and fill a run folder.")
    parser.add_argument("--output", help="run folder, new or empty (default: runs/CONFIG'S NAME)")
    parser.add_argument(
        "--dry_run", action="store_true", help="check settings, images and output, and stop"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --output, with its settings"
    )
    args = parser.parse_args(argv)
    if args.resume:
        if not args.output:
            raise UserError("--resume needs --output RUN, the run folder to go on with")
        settings = Path(args.output) / "config.yaml"
        if not settings.is_file():
            raise UserError(f"--output {args.output}: holds no run to resume")
        if not args.config:
            given = sys.argv[1:] if argv is None else argv
            args = parser.parse_args([f"--config={settings}", *given])
    config = build_config(args)
    name = Path(str(args.config[-1])).stem if args.config else "apple2orange"
    output = Path(args.output or f"runs/{name}")
    if args.dry_run:
        return _dry_run(config, output, args.resume)

    stop = StopRequest()
    stop.watch()
    from cyclegan_ms.cyclegan import TrainingStopped
    from cyclegan_ms.trainer import train as run_training

    try:
        model = run_training(config, output, args.resume, stop=stop)
    except TrainingStopped as error:
        print(error, file=sys.stderr)
        return error.status
    if model.device.leads:
        print(f"trained: {output}/g_ab.ckpt, {output}/g_ba.ckpt, pictures in {output}/samples")
    return 0


def _dry_run(config, output, resume):
    if not resume and output.is_dir() and any(output.iterdir()):
        raise UserError(f"--output {output} is not empty; choose another folder, or --resume")

    from cyclegan_ms.data import epoch_steps, load_domains

    channels = (config.model.channels_a, config.model.channels_b)
    a, b = load_domains(config.data, "train", channels)
    if config.train.sample_every:
        load_domains(config.data, "test", channels)
    steps = epoch_steps(a, b, config.data.batch_size)
    if resume:
        from cyclegan_ms.trainer import load_resumable

        load_resumable(config, output, (a, b))
    print(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True), end="")
    print(
        f"# {len(a)} images of {config.data.domains[0]}, {len(b)} of {config.data.domains[1]}, "
        f"{steps} steps an epoch, {steps * config.train.epochs} in all; would write to {output}"
    )


@command
def infer(argv=None):
    """Convert a file or a folder: `cyclegan-infer`, `scripts/infer.py`."""
    parser = Parser(prog="infer.py", description="Convert an image, or a folder of images.")
    parser.add_argument("--checkpoint", required=True, help="run folder, or a generator's file")
    parser.add_argument(
        "--direction", required=True, help="a2b, b2a, or by domains, such as apple2orange"
    )
    parser.add_argument("--input", required=True, help="image, or folder of images, nested or not")
    parser.add_argument("--output", required=True, help="folder for the results, under same names")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "Ascend", "GPU", "CPU"], help="where to run"
    )
    args = parser.parse_args(argv)

    from cyclegan_ms.device import setup_device
    from cyclegan_ms.translate import Translator, plan_outputs, translate_files

    pairs = plan_outputs(args.input, args.output)
    setup_device(args.device, "pynative")
    translator = Translator.load(args.checkpoint, args.direction)
    result = translate_files(translator, pairs, progress=sys.stderr.isatty())
    for path, reason in result.failed:
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print(f"{len(result.written)} converted, {len(result.failed)} failed, into {args.output}")
    return 1 if result.failed else 0
