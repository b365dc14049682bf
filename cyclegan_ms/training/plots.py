"""Pictures of a training: curves of its losses, and grids of translated test images."""

from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from cyclegan_ms.data.images import view_of
from cyclegan_ms.files import atomic_path
from cyclegan_ms.model.losses import Term

__all__ = ["cycle_grid", "draw_losses"]


def draw_losses(rows: list[dict], terms: list[Term], path) -> None:
    """Draw curves of all losses over the steps, one panel per kind.

    Args:
        rows: lines of metrics.jsonl, or points of `Curves`, at least one.
        terms: the losses to draw.
        path: the picture to write.
    """
    panels: dict[str, list[Term]] = {}
    for term in terms:
        panels.setdefault(term.panel, []).append(term)
    figure = Figure(figsize=(11, 3.2))
    # By hand: finding the margins would take longer than the rest, at the end of every epoch.
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.15, top=0.9, wspace=0.14)
    axes = np.ravel(figure.subplots(1, len(panels)))
    steps = np.array([row["step"] for row in rows])
    for axis, (title, members) in zip(axes, panels.items()):
        for term in members:
            values = np.array([row.get(term.key, np.nan) for row in rows])
            (line,) = axis.plot(steps, values, alpha=0.25, linewidth=0.8)
            smooth = _moving_mean(values, max(1, len(values) // 25))
            axis.plot(steps, smooth, color=line.get_color(), label=term.label, linewidth=1.6)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper right")
        axis.set_ylim(bottom=0)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _moving_mean(values, width):
    """Return the mean of the last `width` values, of fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


def cycle_grid(cycles: list[tuple], domains) -> Image.Image:
    """Put real | fake | reconstructed of both directions side by side, a row per image.

    Domains are called A and B where no font of this machine has the letters of their names.

    Args:
        cycles: for A and for B, arrays (N, C, S, S) in [-1, 1].
        domains: names of A and B.
    """
    font = _font(frozenset("".join(domains)))
    if font is None:
        font, domains = ImageFont.load_default(_FONT_SIZE), ("A", "B")
    columns = []
    for (real, fake, rec), (source, target) in zip(cycles, (domains, domains[::-1])):
        columns += [(source, real), (f"to {target}", fake), ("and back", rec)]
    size, gap, header = columns[0][1].shape[-1], 4, 18
    rows = max(len(images) for _, images in columns)
    extent = (len(columns) * (size + gap) + gap, header + rows * (size + gap))
    grid = Image.new("RGB", extent, "white")
    draw = ImageDraw.Draw(grid)
    for column, (title, images) in enumerate(columns):
        left = gap + column * (size + gap)
        draw.text((left, 2), title, fill="black", font=font)
        for row, image in enumerate(images):
            grid.paste(view_of(image).convert("RGB"), (left, header + row * (size + gap)))
    return grid


_FONT_SIZE = 11


@lru_cache(maxsize=8)
def _font(letters: frozenset[str]):
    """Return a font that has the letters, Pillow's own or one of this machine's; None: no font."""
    needed = {ord(letter) for letter in letters | set("to andback")}
    font = ImageFont.load_default(_FONT_SIZE)
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow without FreeType
        return font if max(needed) < 128 else None
    if needed <= _letters(font.path):
        return font
    for entry in font_manager.fontManager.ttflist:
        if needed <= _letters(entry.fname):
            return ImageFont.truetype(entry.fname, _FONT_SIZE)
    return None


def _letters(font):
    try:
        return set(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):  # a file of fonts that has been removed, or is none
        return set()
