"""A trained generator applied to any image, file or folder."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import mindspore as ms
from mindspore import nn

from cyclegan_ms.checkpoint import GeneratorSpec, load_generator
from cyclegan_ms.config import UserError
from cyclegan_ms.data import convert_image, find_images, from_chw, read_image, to_chw
from cyclegan_ms.files import atomic_path

__all__ = ["Conversion", "Translator", "plan_outputs", "translate_files"]

log = logging.getLogger(__name__)

_WRITABLE = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class Translator:
    """Calls a generator on images of any size.

    Args:
        generator: takes and gives (N, C, H, W) in [-1, 1], H and W multiples of 4.
        spec: its description.
    """

    def __init__(self, generator: nn.Cell, spec: GeneratorSpec):
        self.generator = generator
        self.spec = spec

    @classmethod
    def load(cls, checkpoint, direction: str) -> "Translator":
        """From a run folder or a generator's file.

        Args:
            checkpoint: a run folder with g_ab.ckpt and g_ba.ckpt, or one such file.
            direction: a2b, b2a, or by the domains' names, such as apple2orange.

        Raises:
            UserError: nothing is there, or it translates in another direction.
        """
        checkpoint = Path(checkpoint)
        if checkpoint.is_dir():
            files = {"a2b": checkpoint / "g_ab.ckpt", "b2a": checkpoint / "g_ba.ckpt"}
            missing = [path.name for path in files.values() if not path.is_file()]
            if missing:
                raise UserError(f"{checkpoint}: not a finished run, it has no {missing[0]}")
        else:
            files = {"file": checkpoint}
        found = [load_generator(path) for path in files.values()]
        # By a2b and b2a first: domains may be called a and b, in either order.
        for generator, spec in found:
            if direction == spec.direction:
                return cls(generator, spec)
        for generator, spec in found:
            if direction == spec.name:
                return cls(generator, spec)
        offered = [word for _, spec in found for word in (spec.direction, spec.name)]
        raise UserError(
            f"{checkpoint} does not translate {direction}; --direction can be {', '.join(offered)}"
        )

    def batch(self, pixels: np.ndarray) -> np.ndarray:
        """(N, C, H, W) in [-1, 1] to the same height and width, any H and W."""
        height, width = pixels.shape[2:]
        # The generator halves sizes twice, and its first layer reflects 3 pixels: pad to a multiple
        # of 4, at least 8, mirroring (as often as it takes for images of a few pixels).
        padded = [max(8, -(-extent // 4) * 4) - extent for extent in (height, width)]
        edges = [(0, 0), (0, 0)] + [(extra // 2, extra - extra // 2) for extra in padded]
        pixels = np.pad(pixels, edges, mode="symmetric")
        output = self.generator(ms.Tensor(pixels)).asnumpy()
        top, left = edges[2][0], edges[3][0]
        return output[:, :, top : top + height, left : left + width]

    def __call__(self, image: Image.Image) -> Image.Image:
        """An image of any mode and size to its translation of the same size, RGB or gray."""
        pixels = to_chw(convert_image(image, self.spec.in_channels))
        return from_chw(self.batch(pixels[None])[0])


@dataclass
class Conversion:
    """What became of each input of `translate_files`."""

    written: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def plan_outputs(source, output) -> list[tuple[Path, Path]]:
    """Pairs of input and output file for a file or a folder, checked before anything is loaded.

    Relative paths and names are kept; endings that cannot be written become .png.

    Raises:
        UserError: nothing to convert, a place that cannot be written, or files in the way.
    """
    source, output = Path(source), Path(output)
    if source.is_dir():
        files = find_images(source)
        if not files:
            raise UserError(f"{source}: holds no image")
        inside, around = output.resolve(), source.resolve()
        if inside == around or around in inside.parents:
            raise UserError(f"--output {output} is --input or lies in it; choose another folder")
        relative = [path.relative_to(source) for path in files]
    elif source.is_file():
        files, relative = [source], [Path(source.name)]
    else:
        raise UserError(f"{source}: no such file or folder")

    taken = {name for name in relative if name.suffix.lower() in _WRITABLE}
    pairs = []
    for path, name in zip(files, relative):
        if name not in taken:
            kind, name = name.suffix[1:], name.with_suffix(".png")
            while name in taken:  # photo.gif beside photo.png
                name = name.with_name(f"{name.stem}_{kind}.png")
            taken.add(name)
        pairs.append((path, output / name))
    existing = [target for _, target in pairs if target.exists()]
    if existing:
        raise UserError(
            f"{len(existing)} output files exist already, such as {existing[0]};\n"
            f"choose an empty --output, or remove them: nothing is overwritten"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}") from error
    return pairs


def translate_files(translator: Translator, pairs, progress: bool = False) -> Conversion:
    """Convert each input file to its output file; a bad one is noted and the rest goes on.

    Args:
        translator: does the work.
        pairs: input and output paths, from `plan_outputs`.
        progress: whether to show a progress bar.
    """
    result = Conversion()
    for source, target in tqdm(pairs, unit="image", disable=not progress):
        try:
            image = translator(read_image(source, translator.spec.in_channels))
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                image.save(temporary, **({"quality": 95} if "jp" in target.suffix.lower() else {}))
        except (OSError, MemoryError, RuntimeError) as error:  # too large, for the last two
            reason = (str(error) or "out of memory").splitlines()[0]
            result.failed.append((source, reason))
        else:
            result.written.append(target)
    return result
