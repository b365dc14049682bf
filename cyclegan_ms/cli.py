"""The command lines of training, inference, evaluation and export, and what all share."""

import functools
import logging
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import yaml
from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    restricted_number_type,
)

from cyclegan_ms.config import (
    Parser,
    UserError,
    build_config,
    config_parser,
    load_config,
)
from cyclegan_ms.files import shown
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.paths import check_run_folder, check_writable

__all__ = ["command", "evaluate", "export", "infer", "train"]


def command(main):
    """Make `main(argv)` a program: log to stderr, turn users' mistakes into a line and exit 2."""

    @functools.wraps(main)
    def program(argv=None) -> int:
        logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("cyclegan_ms").setLevel(logging.INFO)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            return main(argv) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {shown(error.filename)}: {error.strerror}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)  # as before a StopRequest's watch

    return program


@command
def train(argv=None):
    """Train a CycleGAN: `cyclegan-train`, `scripts/train.py`."""
    parser = config_parser("train.py", "Train a CycleGAN and fill a run folder.")
    parser.add_argument("--output", help="run folder, new or empty; else runs/CONFIG'S NAME")
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
    check_run_folder(output, resume)

    from cyclegan_ms.data import epoch_steps, load_domains

    channels = (config.model.channels_a, config.model.channels_b)
    a, b = load_domains(config.data, "train", channels)
    if config.train.sample_every:
        load_domains(config.data, "test", channels)
    if config.train.evaluate_every:
        from cyclegan_ms.metrics import load_tests, require_skimage

        require_skimage()
        load_tests(config)
    workers = int(os.environ.get("MS_WORKER_NUM", 1))
    steps = epoch_steps(a, b, config.data.batch_size * workers)
    if resume:
        from cyclegan_ms.trainer import load_resumable

        load_resumable(config, output, (a, b), workers)
    print(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True), end="")
    print(
        f"# {len(a)} images of {config.data.domains[0]}, {len(b)} of {config.data.domains[1]}, "
        f"{steps} steps an epoch, {steps * config.train.epochs} in all; would write to {output}"
    )


def _generator_parser(prog, description):
    """A parser that asks for one generator."""
    parser = Parser(prog=prog, description=description)
    add = parser.add_argument
    add("--checkpoint", required=True, help="run folder, or a generator: .ckpt, .onnx, .mindir")
    add("--direction", required=True, help="a2b, b2a, or by domains, such as apple2orange")
    return parser


def _check_checkpoint(path):
    if not Path(path).exists():
        raise UserError(
            f"--checkpoint {path}: no such file or folder; give the folder of a run, such as "
            f"runs/NAME, or a generator's file"
        )


@command
def infer(argv=None):
    """Convert a file or a folder: `cyclegan-infer`, `scripts/infer.py`."""
    parser = _generator_parser("infer.py", "Convert an image, or a folder of images.")
    add = parser.add_argument
    add("--input", required=True, help="image, or folder of images, nested or not")
    add("--output", required=True, help="folder for the results, under the same names")
    add(
        "--size",
        type=NonNegativeInt,
        default=0,
        help="work with the shorter side at so many pixels and resize the result back; 0: as it is",
    )
    add(
        "--tile",
        type=NonNegativeInt,
        default=0,
        help="compute larger pictures in tiles of this side; 0: where memory needs it",
    )
    add("--batch_size", type=PositiveInt, default=1, help="images of one size at a time")
    add("--format", choices=["png", "jpg", "webp"], help="type of the results (default: the same)")
    add(
        "--quality",
        type=restricted_number_type("Quality", int, [(">=", 1), ("<=", 100)]),
        default=95,
        help="of JPEG and WebP, 1 to 100",
    )
    add("--side_by_side", action="store_true", help="the original beside each result")
    add("--cycle", action="store_true", help="also write what the other generator makes of it")
    add("--skip_existing", action="store_true", help="leave out what has been converted already")
    add(
        "--max_megapixels",
        type=NonNegativeFloat,
        default=200.0,
        help="refuse larger pictures; 0: none",
    )
    add("--device", default="auto", choices=["auto", "Ascend", "GPU", "CPU"], help="where to run")
    args = parser.parse_args(argv)
    return _infer(args)


def _infer(args):
    from cyclegan_ms.convert import Options, convert, plan

    _check_checkpoint(args.checkpoint)
    options = Options(
        args.format, int(args.quality), int(args.batch_size), args.side_by_side, args.cycle,
        args.skip_existing, float(args.max_megapixels),
    )  # fmt: skip
    jobs = plan(args.input, args.output, options)
    stop = StopRequest()
    stop.watch("finishing these images; once more ends at once")

    from cyclegan_ms.device import setup_device
    from cyclegan_ms.translate import Translator

    setup_device(args.device, "pynative")
    translator = Translator.load(args.checkpoint, args.direction, int(args.size), int(args.tile))
    back = None
    if args.cycle:
        other = "b2a" if translator.spec.direction == "a2b" else "a2b"
        if not Path(args.checkpoint).is_dir():
            raise UserError("--cycle needs both generators: give a run folder as --checkpoint")
        back = Translator.load(args.checkpoint, other, int(args.size), int(args.tile))

    result = convert(translator, jobs, options, back, sys.stderr.isatty(), stop)
    for path, note in result.notes:
        print(f"note: {shown(path)}: {note}", file=sys.stderr)
    for path, reason in result.failed:
        print(f"failed: {shown(path)}: {reason}", file=sys.stderr)
    if result.unfinished:
        print(f"stopped: {result.unfinished} left; go on with --skip_existing", file=sys.stderr)
    done = len(result.written)
    speed = f"{done / result.seconds:.2f} images/s, " if done else ""
    print(
        f"{done} converted, {len(result.skipped)} skipped, {len(result.failed)} failed, "
        f"{speed}into {args.output}"
    )
    if stop.caught:
        return 128 + stop.caught
    return 1 if result.failed else 0


@command
def evaluate(argv=None):
    """Metrics of a finished run: `scripts/evaluate.py`."""
    parser = Parser(prog="evaluate.py", description="Measure a run's generators on test images.")
    add = parser.add_argument
    add("--checkpoint", required=True, help="run folder, or its folder best")
    add("--data.root", help="folder with trainA, trainB, testA, testB (default: the run's)")
    add("--output", required=True, help="the report, FILE.json; FILE.md and FILE.html go beside it")
    add("--features", help="network for FID and KID, an ONNX file (see README); needs extra [onnx]")
    add("--device", default="auto", choices=["auto", "Ascend", "GPU", "CPU"], help="where to run")
    args = parser.parse_args(argv)
    run = Path(args.checkpoint)
    _check_checkpoint(run)
    for name in ("config.yaml", "g_ab.ckpt", "g_ba.ckpt"):
        if not (run / name).is_file():
            raise UserError(f"--checkpoint {run}: not a finished run, it has no {name}")
    config = load_config(run / "config.yaml")
    if args.data.root:
        config = replace(config, data=replace(config.data, root=args.data.root))
    stop = StopRequest()
    stop.watch("")

    from cyclegan_ms.device import setup_device
    from cyclegan_ms.evaluate import evaluate as evaluate_run
    from cyclegan_ms.evaluation_report import check_outputs, markdown, write_report
    from cyclegan_ms.page import environment

    stop.interrupt()
    paths = check_outputs(args.output)
    device = setup_device(args.device)
    report, cases = evaluate_run(run, config, args.features)
    print(markdown(report))
    packages = ("scikit-image", "onnxruntime") if args.features else ("scikit-image",)
    write_report(paths, report | {"environment": environment(device, *packages)}, cases)
    print(f"best and worst cases: {paths['.html']}")
    return 1 if report["left_out"] else 0


@command
def export(argv=None):
    """A generator as MindIR or ONNX: `scripts/export.py`."""
    parser = _generator_parser("export.py", "Export a generator, and check what it computes.")
    add = parser.add_argument
    add("--format", required=True, choices=["mindir", "onnx"], help="onnx needs the extra [onnx]")
    add("--output", required=True, help="the file, ending in .mindir or .onnx")
    add("--overwrite", action="store_true", help="replace the file if it is there")
    args = parser.parse_args(argv)
    path = Path(args.output)
    _check_checkpoint(args.checkpoint)
    if path.exists() and not args.overwrite:
        raise UserError(f"--output {path} exists; --overwrite replaces it")
    check_writable(path.parent)
    stop = StopRequest()
    stop.watch("")

    from cyclegan_ms.device import setup_device
    from cyclegan_ms.export import export_generator
    from cyclegan_ms.translate import Translator

    stop.interrupt()
    setup_device("CPU", "pynative")
    engine = Translator.load(args.checkpoint, args.direction).engine
    difference = export_generator(engine.to_mindspore(), engine.spec, path, args.format)
    print(
        f"exported {engine.spec.name} to {path}, {path.stat().st_size / 1e6:.1f} MB, for any "
        f"number of images with sides in multiples of 4; differs from MindSpore by "
        f"{difference:.1g} at most"
    )
