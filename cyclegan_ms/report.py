"""What people look at: progress, metrics.jsonl, sample grids, the loss plot."""

import json
import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cyclegan_ms.data import from_chw, load_square
from cyclegan_ms.files import atomic_path

__all__ = [
    "MEASURES",
    "Progress",
    "cycle_grid",
    "draw_losses",
    "drop_lines",
    "read_metrics",
    "sample_images",
]

log = logging.getLogger(__name__)

MEASURES = ("learning_rate", "step_s", "images_per_s", "wait_share")
"""What a line of metrics.jsonl holds besides epoch, step and losses."""


class Progress:
    """Follows a training: a bar on a terminal, and a line of metrics.jsonl every few steps.

    Losses in a line are means over the steps since the line before it; a line is also written at
    the end of each epoch. `step_s` leaves out the first step of a process, which compiles;
    `wait_share` is the part of it that went by waiting for images.

    Args:
        path: the metrics file, appended to.
        steps: whole length of the training.
        batch_images: images per step, both domains together.
        log_every: steps between lines.
        bar: whether to show a progress bar.
        board: takes every line too, if given.
        on_line: called with every line, if given.
    """

    def __init__(self, path, steps: int, batch_images: int, log_every: int, bar: bool, board=None,
                 on_line=None):  # fmt: skip
        self.board, self.on_line = board, on_line
        self.path = Path(path)
        self.file = open(path, "ab")  # noqa: SIM115 - closed in __exit__
        self.batch_images = batch_images
        self.log_every = log_every
        self.bar = tqdm(total=steps, unit="step", disable=not bar, dynamic_ncols=True)
        self.bar.set_description("compiling, up to a minute")
        self.redirect = ExitStack()
        self.window = _Mean()
        self.epoch = _Mean()
        self.times: list[float] = []
        self.waits: list[float] = []
        self.clock = time.perf_counter()
        self.wait = 0.0
        self.first_step_s = None

    def __enter__(self):
        if not self.bar.disable:  # keep log lines from tearing the bar
            self.redirect.enter_context(logging_redirect_tqdm())
        return self

    def __exit__(self, *error):
        self.redirect.close()
        self.bar.close()
        self.file.close()

    def state(self) -> dict:
        """What a resumed training needs to write the same lines; JSON."""
        os.fsync(self.file.fileno())  # the lines are on the disk before a state counts on them
        return {
            "bytes": self.file.tell(),
            "window": vars(self.window).copy(),
            "epoch": vars(self.epoch).copy(),
        }

    def restore(self, state: dict, step: int) -> None:
        """Go back to a state: lines written after it are dropped, they will be written again."""
        drop_lines(self.path, state["bytes"])
        self.file.seek(0, os.SEEK_END)
        self.window, self.epoch = _Mean(**state["window"]), _Mean(**state["epoch"])
        self.bar.initial = self.bar.n = step

    def waiting(self, batches):
        """The batches, with the time that each is waited for noted."""
        batches = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.wait = time.perf_counter() - began
            yield batch

    def step(self, epoch: int, losses: dict) -> None:
        """Note a finished step."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        if self.first_step_s is None:
            self.first_step_s = seconds
        else:
            self.times.append(seconds)
            self.waits.append(self.wait)
        self.window.add(losses)
        self.epoch.add(losses)
        self.bar.set_description(f"epoch {epoch}")
        self.bar.set_postfix_str(self._brief(losses, seconds), refresh=False)
        self.bar.update()

    def _brief(self, losses, seconds):
        """Means of both directions: a terminal has 80 columns."""
        pairs = {"g": "g_ab g_ba", "cycle": "cycle_a cycle_b", "idt": "idt_a idt_b", "d": "d_a d_b"}
        parts = [
            f"{kind} {np.mean([losses[name] for name in names.split()]):.2f}"
            for kind, names in pairs.items()
            if names.split()[0] in losses
        ]
        return " ".join([*parts, f"{self.batch_images / seconds:.1f} images/s"])

    def write_line(self, epoch: int, step: int, learning_rate: float) -> None:
        """A line for the steps since the line before, if there are any."""
        if not self.window.count:
            return
        step_s = float(np.mean(self.times)) if self.times else self.first_step_s
        row = {"epoch": epoch, "step": step, **self.window.values()}
        row["learning_rate"] = learning_rate
        row["step_s"] = round(step_s, 4)
        row["images_per_s"] = round(self.batch_images / step_s, 2)
        row["wait_share"] = round(sum(self.waits) / sum(self.times), 4) if self.times else 0.0
        self.file.write(json.dumps(row).encode() + b"\n")
        self.file.flush()
        if self.board:
            self.board.metrics(row)
        if self.on_line:
            self.on_line(row)
            self.restart_clock()
        self.window, self.times, self.waits = _Mean(), [], []

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Say the epoch's mean losses in a line."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in self.epoch.values().items())
        log.info("epoch %d/%d  %s", epoch, epochs, text)
        self.epoch = _Mean()

    def restart_clock(self) -> None:
        """Leave out of the step times what was done since the last step."""
        self.clock = time.perf_counter()


@dataclass
class _Mean:
    """Running means of named numbers."""

    sums: dict = field(default_factory=dict)
    count: int = 0

    def add(self, row):
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in row.items()}
        self.count += 1

    def values(self):
        return {name: total / self.count for name, total in self.sums.items()}


def drop_lines(path, size: int) -> None:
    """Drop from a file of lines what was written after its first `size` bytes."""
    kept = Path(path).read_bytes()[:size]
    if len(kept) < size:
        log.warning("%s: lines are missing, and stay missing", path)
    os.truncate(path, kept.rfind(b"\n") + 1)


def read_metrics(path) -> list[dict]:
    """The lines of a metrics file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def draw_losses(rows: list[dict], path) -> None:
    """Curves of all losses over the steps, one panel per kind."""
    figure = Figure(figsize=(11, 3.2))
    # By hand: finding the margins would take longer than the rest, at the end of every epoch.
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.15, top=0.9, wspace=0.14)
    panels = figure.subplots(1, 3)
    kinds = {"adversarial": ("g_ab", "g_ba", "d_a", "d_b"), "cycle": ("cycle_a", "cycle_b"),
             "identity": ("idt_a", "idt_b")}  # fmt: skip
    steps = np.array([row["step"] for row in rows])
    for panel, (kind, names) in zip(panels, kinds.items()):
        for name in names:
            if name in rows[0]:
                values = np.array([row[name] for row in rows])
                (line,) = panel.plot(steps, values, alpha=0.25, linewidth=0.8)
                smooth = _moving_mean(values, max(1, len(values) // 25))
                panel.plot(steps, smooth, color=line.get_color(), label=name, linewidth=1.6)
        panel.set_title(kind if panel.lines else f"{kind} (off)")
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=8, loc="upper right")
            panel.set_ylim(bottom=0)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _moving_mean(values, width):
    """Mean of the last `width` values, of fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


def sample_images(domain, size: int, count: int = 4) -> np.ndarray:
    """A fixed choice of images, spread over a domain: (count, C, size, size) in [-1, 1]."""
    indices = np.linspace(0, len(domain) - 1, min(count, len(domain))).astype(int)
    return np.stack([load_square(domain, index, size) for index in indices])


def cycle_grid(cycles: list[tuple], domains) -> Image.Image:
    """real | fake | reconstructed of both directions side by side, a row per image.

    Args:
        cycles: for A and for B, arrays (N, C, S, S) in [-1, 1].
        domains: names of A and B.
    """
    columns = []
    for (real, fake, rec), (source, target) in zip(cycles, (domains, domains[::-1])):
        columns += [(source, real), (f"to {target}", fake), ("and back", rec)]
    size, gap, header = columns[0][1].shape[-1], 4, 18
    rows = max(len(images) for _, images in columns)
    extent = (len(columns) * (size + gap) + gap, header + rows * (size + gap))
    grid = Image.new("RGB", extent, "white")
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(size=11)
    for column, (title, images) in enumerate(columns):
        left = gap + column * (size + gap)
        draw.text((left, 2), title, fill="black", font=font)
        for row, image in enumerate(images):
            grid.paste(from_chw(image).convert("RGB"), (left, header + row * (size + gap)))
    return grid
