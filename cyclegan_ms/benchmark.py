"""Time and memory of this package beside others: each in its own process, in turns.

`measure` starts a process per subject, lets them step in turns, so that whatever else the machine
does hits all of them alike, and asks each for its peak memory at the end. Run as a module, this
file is such a process.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cyclegan_ms.errors import UserError
from cyclegan_ms.page import markdown_table

__all__ = ["SIZES", "Size", "markdown", "measure"]


class Size(NamedTuple):
    """What is computed: images, and the networks for them."""

    pixels: int
    """side of an image"""
    batch: int
    width: int
    """channels of the first layer"""
    blocks: int
    """residual blocks of a generator"""
    steps: int
    """training steps in a turn"""


SIZES = {
    "64": Size(64, 1, 32, 6, steps=10),
    "128": Size(128, 1, 64, 6, steps=1),
    "128x4": Size(128, 4, 64, 6, steps=1),
    "256": Size(256, 1, 64, 9, steps=1),
}
"""By side and, if more than one image, batch."""

TWIN = Path(__file__).resolve().parents[1] / "tests/pytorch_reference.py"
"""The independent implementation in PyTorch, which only a checkout has."""
NEEDS = {"pytorch": ["torch"], "onnxruntime": ["onnx", "onnxruntime"]}
"""Packages that a subject needs."""
LABELS = {
    "cyclegan_ms": "cyclegan_ms, Graph",
    "pytorch": "PyTorch twin",
    "tutorial": "tutorial variant, PyNative",
    "onnxruntime": "ONNX export, onnxruntime",
}


def measure(tasks, sizes, subjects, rounds: int, target: str, say=print) -> Iterator[dict]:
    """Run the benchmark; yield the report whenever it has more rows.

    One that dies, such as for want of memory, is told of, and the others go on.

    Args:
        tasks: of `train`, `infer` and `data`.
        sizes: keys of `SIZES`; batches are for training alone.
        subjects: keys of `LABELS`; the first is what the others are compared with.
        rounds: number of turns that every subject gets.
        target: the device of this package, Ascend, GPU or CPU; PyTorch takes a GPU too.
        say: called with lines of progress.

    A report has machine, versions and a list of rows, for JSON and `markdown`.
    """
    report = {"date": date.today().isoformat(), **_machine(subjects, target), "rows": []}
    for task in tasks:
        for size in _sizes(task, sizes):
            able = [s for s in subjects if _can(s, task)]
            try:
                turns = rounds if task != "data" else 1
                report["rows"] += _turns(task, size, able, turns, target, say)
            except UserError as error:
                say(f"left out {task} {size}: {error}")
            else:
                yield report


def _sizes(task, sizes):
    if task == "data":
        return ["256"]
    return [size for size in sizes if task == "train" or SIZES[size].batch == 1]


def _can(subject, task):
    if task == "data":
        return subject == "cyclegan_ms"
    return subject != "onnxruntime" or task == "infer"


def _turns(task, size, subjects, rounds, target, say):
    workers = {}
    try:
        for subject in subjects:
            workers[subject] = _Worker(subject, task, size, target)
            first = workers[subject].ready["first_s"]
            say(f"{task} {size}: {LABELS[subject]} is ready, its first took {first:.1f} s")
        seconds = {subject: [] for subject in subjects}
        for turn in range(rounds):
            for subject, worker in workers.items():
                seconds[subject].append(worker.turn())
            say(f"{task} {size}: turn {turn + 1} of {rounds}")
        peaks = {subject: worker.peak() for subject, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.process.wait()
    base = seconds[subjects[0]]
    return [
        {
            "task": task,
            "size": SIZES[size].pixels,
            "batch": SIZES[size].batch,
            "subject": subject,
            "seconds": statistics.median(seconds[subject]),
            "all_seconds": seconds[subject],
            # Of the turns pairwise: what slows one turn down slows both.
            "ratio": statistics.median(b / s for b, s in zip(base, seconds[subject])),
            "peak_gb": peaks[subject],
            "memory_ratio": peaks[subjects[0]] / peaks[subject],
            **workers[subject].ready,
        }
        for subject in subjects
    ]


class _Worker:
    def __init__(self, subject, task, size, target):
        command = [sys.executable, "-m", "cyclegan_ms.benchmark", subject, task, size, target]
        root = str(Path(__file__).resolve().parents[1])
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=root, env={**os.environ, "PYTHONPATH": root, "GLOG_v": "3"},
        )  # fmt: skip
        self.subject = subject
        self.ready = self._read()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        status = self.process.wait()
        reason = "killed, perhaps for want of memory" if status == -9 else f"status {status}"
        raise UserError(f"{LABELS[self.subject]} ended early ({reason})")

    def turn(self):
        with suppress(BrokenPipeError):  # `_read` says that it has ended
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self._read()["seconds"]

    def peak(self):
        """End it; return its peak memory in GB."""
        self.process.stdin.close()
        return self._read()["peak_gb"]


def _machine(subjects, target):
    packages = {"cyclegan_ms": "mindspore", "pytorch": "torch", "onnxruntime": "onnxruntime"}
    versions = {packages[s]: version(packages[s]) for s in subjects if s in packages}
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    device = "" if target == "CPU" else f", on its {target}"
    return {"machine": f"{name}, {os.cpu_count()} cores{device}", "versions": versions}


def markdown(report: dict) -> str:
    """Return the report as a table."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [
        f"{report['machine']}; {versions}; {report['date']}. Medians; the ratios are this "
        f"package's time to the other's, of turns taken pairwise, and its memory to the other's: "
        f"below 1 this package is faster, or leaner.",
        "",
    ]
    table = [
        ["", "pixels", "", "seconds", "time ratio", "peak memory", "memory ratio", "ready after"]
    ]
    names = {"train": "training step", "infer": "one image", "data": "200 pairs of images"}
    for row in report["rows"]:
        ratios = [f"{row[key]:.2f}" for key in ("ratio", "memory_ratio")]
        of_time, of_memory = ratios if row["subject"] != "cyclegan_ms" else ("", "")
        start = row["import_s"] + row["first_s"]
        name = names[row["task"]] + (f", batch {row['batch']}" if row["batch"] > 1 else "")
        table.append(
            [
                name, str(row["size"]), LABELS[row["subject"]], f"{row['seconds']:.3g}", of_time,
                f"{row['peak_gb']:.1f} GB", of_memory, f"{start:.0f} s",
            ]
        )  # fmt: skip
    return "\n".join([*lines, *markdown_table(table, words=3)]) + "\n"


# ------------------------------------------------------------------- inside of such a process


def _serve(subject, task, size, target):
    begun = time.perf_counter()
    make = {
        "cyclegan_ms": _ours,
        "tutorial": _tutorial,
        "pytorch": _pytorch,
        "onnxruntime": _onnxruntime,
    }[subject]
    step = make(task, SIZES[size], target)
    built = time.perf_counter()
    step()
    first = time.perf_counter() - built
    # Let memory settle; inference compiles a frequent size again.
    for _ in range(31 if task == "infer" else 1):
        step()
    _say(import_s=built - begun, first_s=first)
    count = {"train": SIZES[size].steps, "infer": 10, "data": 1}[task]
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(count):
            step()
        _say(seconds=(time.perf_counter() - start) / count)
    _say(peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def _say(**values):
    print(json.dumps(values), flush=True)


def _images(size, n=2):
    rng = np.random.default_rng(0)
    shape = (size.batch, 3, size.pixels, size.pixels)
    return [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(n)]


def _ours(task, size, target, variant="paper", mode="graph"):
    from cyclegan_ms.config import Config, DataConfig, DeviceConfig, ModelConfig, TrainConfig
    from cyclegan_ms.device import setup_device
    from cyclegan_ms.training.cyclegan import CycleGAN, build_networks, generator_spec

    if task == "data":
        return _pipeline(size.pixels)
    device = setup_device(target, mode, seed=0)
    plain = {"decay_epochs": 0, "pool_size": 0} if variant == "tutorial" else {}
    config = Config(
        data=DataConfig(load_size=size.pixels, crop_size=size.pixels, batch_size=size.batch),
        model=ModelConfig(variant=variant, width=size.width, blocks=size.blocks),
        train=TrainConfig(**plain),
        device=DeviceConfig(target=target),
    )
    networks = build_networks(config.model, config.data.batch_pixels)
    real_a, real_b = _images(size)
    if task == "train":
        model = CycleGAN(networks, config, [2e-4], device)
        return lambda: model.step(real_a, real_b)
    if variant == "tutorial":
        import mindspore as ms

        networks.g_ab.set_train(False)
        return lambda: networks.g_ab(ms.Tensor(real_a)).asnumpy()
    from cyclegan_ms.weights.engines import MindSporeEngine

    setup_device(target, "pynative")  # as infer.py
    engine = MindSporeEngine(networks.g_ab.set_train(False), generator_spec(config, "a2b", 0))
    return lambda: engine(real_a)


def _tutorial(task, size, target):
    return _ours(task, size, target, "tutorial", "pynative")


def _pytorch(task, size, target):
    import torch

    sys.path.insert(0, str(TWIN.parent))
    from pytorch_reference import Discriminator, Generator, Reference

    from cyclegan_ms.model.image_pool import ImagePool

    torch.manual_seed(0)
    width, blocks = size.width, size.blocks
    device = "cuda" if target == "GPU" else "cpu"
    makers = {
        "g_ab": lambda: Generator(3, 3, width, blocks),
        "g_ba": lambda: Generator(3, 3, width, blocks),
        "d_a": lambda: Discriminator(3, width),
        "d_b": lambda: Discriminator(3, width),
    }
    real_a, real_b = _images(size)
    if task == "train":
        reference = Reference({name: make().to(device) for name, make in makers.items()})
        pools = [ImagePool(50, [0, 2, side]) for side in (0, 1)]
        return lambda: reference.step(real_a, real_b, *pools)
    network = makers["g_ab"]().to(device).eval()
    image = torch.from_numpy(real_a).to(device)

    def step():
        with torch.no_grad():
            return network(image).cpu().numpy()

    return step


def _onnxruntime(task, size, target):
    from cyclegan_ms.device import setup_device
    from cyclegan_ms.model.spec import GeneratorSpec
    from cyclegan_ms.weights.engines import OnnxEngine
    from cyclegan_ms.weights.export import export_generator

    setup_device("CPU", "pynative", seed=0)
    spec = GeneratorSpec("a2b", ("a", "b"), width=size.width, blocks=size.blocks)
    (image,) = _images(size, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "g.onnx")
        export_generator(spec.build().set_train(False), spec, path, "onnx")
        engine = OnnxEngine(path)
    return lambda: engine(image)


def _pipeline(size):
    from PIL import Image

    from cyclegan_ms.config import DataConfig
    from cyclegan_ms.data.domains import FolderDomain
    from cyclegan_ms.data.stream import UnpairedStream, iterate

    rng = np.random.default_rng(0)
    folder = tempfile.TemporaryDirectory()
    for name in ("trainA", "trainB"):
        Path(folder.name, name).mkdir()
        for index in range(50):  # as smooth as a photograph
            coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            coarse.resize((size, size), 3).save(Path(folder.name, name, f"{index}.jpg"))
    domains = [FolderDomain(Path(folder.name, name)) for name in ("trainA", "trainB")]
    config = DataConfig(load_size=size * 286 // 256, crop_size=size)
    seeds = iter(range(1000))

    def step():
        assert folder  # stays until the process ends
        stream = UnpairedStream(*domains, config, seed=next(seeds), epochs=4)
        assert sum(1 for _ in iterate(stream)) == 200

    return step


if __name__ == "__main__":
    _serve(*sys.argv[1:])
