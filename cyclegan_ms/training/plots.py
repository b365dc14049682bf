"""Pictures of a training: curves of its losses, and grids of translated test images."""

import io
import re
from functools import lru_cache

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from cyclegan_ms.data.images import view_of
from cyclegan_ms.files import atomic_path
from cyclegan_ms.model.losses import Term

__all__ = ["GAP", "HEADER", "cycle_grid", "draw_losses", "draw_panel", "panels_of"]

GAP, HEADER = 4, 18
"""Pixels between the pictures of a grid, and above them."""
_SOFT = "#808080"
"""Of axes and letters on a page, which may be light or dark."""


def panels_of(terms: list[Term]) -> dict[str, list[Term]]:
    """Group losses by the panel of curves that they belong to."""
    panels: dict[str, list[Term]] = {}
    for term in terms:
        panels.setdefault(term.panel, []).append(term)
    return panels


def draw_losses(rows: list[dict], terms: list[Term], path) -> None:
    """Draw curves of all losses over the steps, one panel per kind, three of them in a row.

    Args:
        rows: lines of metrics.jsonl, or points of `Curves`, at least one.
        terms: the losses to draw.
        path: the picture to write.
    """
    panels = panels_of(terms)
    lines = -(-len(panels) // 3)
    figure = Figure(figsize=(11, 3.2 * lines))
    # By hand: finding the margins would take longer than the rest, at the end of every epoch.
    margins = {"bottom": 0.15 / lines, "top": 1 - 0.1 / lines, "hspace": 0.34}
    figure.subplots_adjust(left=0.04, right=0.99, wspace=0.14, **margins)
    axes = np.ravel(figure.subplots(lines, min(3, len(panels))))
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (title, members) in zip(axes, panels.items()):
        _draw_curves(axis, rows, members)
        axis.set_title(title)
        axis.legend(fontsize=8, loc="upper right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_panel(rows: list[dict], members: list[Term]) -> tuple[str, list[str]]:
    """Draw the curves of one panel for a page: SVG without a background, and their colours."""
    figure = Figure(figsize=(4.6, 2.6))  # as wide as a telephone: letters keep their size there
    figure.subplots_adjust(left=0.1, right=0.95, bottom=0.18, top=0.96)
    axis = figure.subplots()
    colors = _draw_curves(axis, rows, members)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.tick_params(colors=_SOFT)
    axis.xaxis.label.set_color(_SOFT)
    for spine in axis.spines.values():
        spine.set_color(_SOFT)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg), colors  # HTML knows what these would say


def _draw_curves(axis, rows, members):
    """Draw losses over the steps, and their moving means; return the colours."""
    steps = np.array([row["step"] for row in rows])
    colors = []
    for term in members:
        values = np.array([row.get(term.key, np.nan) for row in rows])
        (line,) = axis.plot(steps, values, alpha=0.25, linewidth=0.8)
        smooth = _moving_mean(values, max(1, len(values) // 25))
        look = {"color": line.get_color(), "label": term.label, "linewidth": 1.6}
        axis.plot(steps, smooth, marker="" if len(values) > 1 else "o", **look)
        colors.append(to_hex(line.get_color()))
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
    axis.set_ylim(bottom=0)
    return colors


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
    size = columns[0][1].shape[-1]
    rows = max(len(images) for _, images in columns)
    extent = (len(columns) * (size + GAP) + GAP, HEADER + rows * (size + GAP))
    grid = Image.new("RGB", extent, "white")
    draw = ImageDraw.Draw(grid)
    for column, (title, images) in enumerate(columns):
        left = GAP + column * (size + GAP)
        draw.text((left, 2), title, fill="black", font=font)
        for row, image in enumerate(images):
            grid.paste(view_of(image).convert("RGB"), (left, HEADER + row * (size + GAP)))
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
