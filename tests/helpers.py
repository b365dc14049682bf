"""What several test files need: small data, configurations and networks; faults; processes."""

import io
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
from PIL import Image

import mindspore as ms

from cyclegan_ms.config import Config, DataConfig, ModelConfig, TrainConfig
from cyclegan_ms.model.spec import GeneratorSpec

ROOT = Path(__file__).parents[1]


def script(name, *arguments, cwd=ROOT, **options):
    """Run a command of the package as a user does, in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, **options)


def draw_folder(root):
    """A data folder: 3 reddish images of A, 2 bluish of B, and one of each to test with."""
    rng = np.random.default_rng(0)
    for split, count in {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}.items():
        (root / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., 0 if split.endswith("A") else 2] += 150
            Image.fromarray(pixels).save(root / split / f"{i}.png")
    return root


def photograph(rng, width, height):
    """Smooth colours, hard edges and noise, as a camera makes them."""
    colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels = pixels + rng.normal(0, 4, (height, width, 1))
    pixels[height // 4 : height // 2, width // 4 : width // 2] *= 0.4
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def tiny(root="unused", **training):
    return Config(
        data=DataConfig(str(root), load_size=36, crop_size=32),
        model=ModelConfig(width=4, blocks=1),
        train=TrainConfig(**{"epochs": 2, "log_every": 2, **training}),
    )


def weights(model):
    return {
        f"{name}.{key}": p.asnumpy()
        for name, cell in model.networks.cells().items()
        for key, p in cell.parameters_and_names()
    }


GENERATORS = {
    f"{variant}-{a}to{b}{'-own' if variant == 'tutorial' and not shared else ''}": GeneratorSpec(
        "a2b", ("a", "b"), a, b, 4, 2, variant, shared
    )
    for variant in get_args(get_type_hints(ModelConfig)["variant"])
    for shared in ((True, False) if variant == "tutorial" else (False,))
    for a, b in ((3, 3), (3, 1), (1, 3))
}
GENERATORS["paper-resize-3to1"] = GeneratorSpec(
    "a2b", ("a", "b"), 3, 1, width=4, blocks=2, upsample="resize"
)
"""Every kind of generator that can be built, small: all variants, colour and gray."""


def generator(name):
    """One of `GENERATORS`, with weights so large that outputs differ from place to place."""
    spec = GENERATORS[name]
    cell = spec.build().set_train(False)
    # Nothing normalises the tutorial's, and rounding grows.
    scale = 0.2 if spec.variant == "paper" else 0.1 if spec.shared_blocks else 0.12
    for index, parameter in enumerate(cell.trainable_params()):
        rng = np.random.default_rng(index)
        values = rng.normal(0, scale, parameter.shape).astype(np.float32)
        parameter.set_data(ms.Tensor(values))
    return cell


def write_network(path, shape=("n", 3, 8, 12), node="GlobalAveragePool", kind=1):
    """An ONNX file with one node: by default the mean of every channel, (N, 3, 1, 1)."""
    from onnx import helper, save  # imported before MindSpore, it would keep that from loading

    nodes = [helper.make_node(node, ["x"], ["y"])]
    ends = [helper.make_tensor_value_info(name, kind, s) for name, s in (("x", shape), ("y", None))]
    graph = helper.make_graph(nodes, "features", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 18)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


SPEC = GeneratorSpec("a2b", ("apple", "orange"), width=4, blocks=1, image_size=32, epoch=7)


class Negative:
    """Stands in for an engine: the negative of an image."""

    spec = SPEC

    def __call__(self, pixels):
        if pixels.shape[2] % 4 or pixels.shape[3] % 4 or min(pixels.shape[2:]) < 8:
            raise ValueError("sizes must be multiples of 4")
        return -pixels


@contextmanager
def no_file_larger_than(size):
    """As if the disk were full after so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def wait_for_state(run, process, beyond=0, seconds=120):
    """Until a state after step `beyond` is on the disk."""
    latest = run / "checkpoints" / "latest"
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if latest.exists() and int(latest.read_text().removeprefix("step_")) > beyond:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def pixel(element, x, y):
    """The colour at a place of what a browser shows of an element, in shares of its sides."""
    picture = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return picture.getpixel((int(x * picture.width), int(y * picture.height)))
