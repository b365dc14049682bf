"""A run's page, index.html: sample pictures by epoch, curves, metrics, settings."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cyclegan_ms.clock import duration
from cyclegan_ms.evaluate import patches
from cyclegan_ms.evaluate.run import METRICS
from cyclegan_ms.files import atomic_path, shown
from cyclegan_ms.model.losses import PANELS, Term
from cyclegan_ms.page import SMALL, address_of, render
from cyclegan_ms.training.plots import GAP, HEADER, draw_panel, panels_of
from cyclegan_ms.training.progress import read_metrics

__all__ = ["Status", "write_page"]

_POINTS = 300
"""Points of a curve that a page draws, at most."""


@dataclass(frozen=True)
class Status:
    """How far a training is."""

    step: int
    """the last one that was taken"""
    epoch: int
    """that it belongs to"""
    epochs: int
    """of the whole training"""
    steps: int
    """of the whole training"""
    seconds: float
    """that its steps took so far"""
    left: float = 0.0
    """seconds that the steps left will take; 0: nobody knows"""
    per_epoch: int = 0
    """steps of an epoch"""
    state_minutes: float = 0.0
    """from one saved state, with its pictures, to the next within an epoch; 0: there is none"""
    stopped: bool = False
    """whether it was asked to end before the last step"""
    way_on: str = ""
    """the command to go on with"""
    patience: float = 0.0
    """seconds after which a page that was not written again is no longer believed; 0: for ever"""
    domains: tuple[str, str] = ("A", "B")
    shown: tuple[int, int] = (0, 0)
    """sample images of A and of B"""
    side: int = 0
    """of a sample image, in pixels"""


def write_page(
    output, rows: list[dict], terms: list[Term], status: Status, facts: dict[str, str]
) -> None:
    """Write index.html of a run folder; it is readable from disk.

    Args:
        output: the run folder, with config.yaml, samples and perhaps evaluation.jsonl.
        rows: lines of metrics.jsonl, or points of `Curves`.
        terms: the losses to show.
        status: how far it is.
        facts: from `environment`.
    """
    output = Path(output)
    evaluations, metrics = _evaluations(output / "evaluation.jsonl")
    page = render(
        "run.html",
        title=output.resolve().name,
        domains=status.domains,
        running=status.step < status.steps and not status.stopped,
        stopped=status.stopped,
        way_on=status.way_on,
        patience=1000 * status.patience,
        per_epoch=status.per_epoch,
        state_minutes=status.state_minutes,
        written=datetime.now().astimezone().isoformat(timespec="seconds"),
        links=_links(output),
        status=_chips(rows[-1] if rows else {}, status, facts),
        samples=_samples(output),
        grid=_grid(status),
        panels=_panels(rows, terms, status.domains) if rows else [],
        evaluations=evaluations,
        metrics=metrics,
        nearest=patches.METRIC,
        config=(output / "config.yaml").read_text(encoding="utf-8"),
        environment=facts,
    )
    with atomic_path(output / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _chips(last, status, facts):
    """List what a glance should tell, as pairs of label and value."""
    chips = [
        ("epoch", f"{status.epoch} of {status.epochs}"),
        ("step", f"{status.step:,} of {status.steps:,}"),
    ]
    if last:
        chips.append(("time training", duration(status.seconds)))
        if status.left:
            chips.append(("time left", duration(status.left)))
        chips.append(("a step, lately", f"{last['step_s']:.2f} s"))
        chips.append(("learning rate", f"{last['learning_rate']:.2g}"))
    return [*chips, ("device", facts["device"])] if "device" in facts else chips


def _links(output):
    """List the reports and the pages of translations below a run folder."""
    reports = sorted(path for path in output.glob("*.html") if path.name != "index.html")
    folders = sorted(output.glob("*/index.html"))
    links = [(address_of(path.name), f"evaluation: {shown(path.stem)}") for path in reports]
    return links + [
        (f"{address_of(path.parent.name)}/index.html", f"translations: {shown(path.parent.name)}")
        for path in folders
    ]


def _samples(output):
    paths = sorted((output / "samples").glob("epoch_*.png"))
    return [{"epoch": int(it.stem.split("_")[1]), "file": f"samples/{it.name}"} for it in paths]


def _grid(status):
    """Say where the tiles of a `cycle_grid` are, in per cent of what CSS wants to know."""
    side, step = status.side, status.side + GAP
    wide, high = 6 * step + GAP, HEADER + max(status.shown) * step
    if not side:
        return {"wide": 100, "high": 100, "directions": [], "small": False}

    def across(column):
        return 100 * (GAP + column * step) / (wide - side)

    directions = []
    for first, count, (source, target) in zip(
        (0, 3), status.shown, (status.domains, status.domains[::-1])
    ):
        tiles = [
            {
                "real": across(first), "fake": across(first + 1), "rec": across(first + 2),
                "y": 100 * (HEADER + row * step) / (high - side),
            }
            for row in range(count)
        ]  # fmt: skip
        directions.append({"name": f"{source} to {target}", "source": source, "tiles": tiles})
    return {
        "wide": 100 * wide / side, "high": 100 * high / side, "directions": directions,
        "small": side < SMALL,
    }  # fmt: skip


def _panels(rows, terms, domains):
    """Describe the panels of curves: title, picture, legend, and what is good."""
    thinned = rows[:: -(-len(rows) // _POINTS)]
    thinned = thinned if thinned[-1] is rows[-1] else [*thinned, rows[-1]]
    panels = []
    for title, members in panels_of(terms).items():
        svg, colors = draw_panel(thinned, members)
        legend = [
            {
                "color": color, "key": term.key, "label": _named(term.label, domains),
                "value": f"{rows[-1][term.key]:.2f}" if term.key in rows[-1] else "",
            }
            for term, color in zip(members, colors)
        ]  # fmt: skip
        meaning = PANELS.get(title, "")
        panels.append({"title": title, "svg": svg, "legend": legend, "meaning": meaning})
    return panels


def _named(label, domains):
    """Return a label of a loss with the names of the domains in place of A and B."""
    return re.sub(r"\b[AB]\b", lambda letter: domains["AB".index(letter[0])], label)


def _evaluations(path):
    """Return the evaluated epochs, the newest first, and the metrics that they have."""
    rows = read_metrics(path) if path.exists() else []
    if not rows:  # also in a file from which a resume has dropped all lines
        return [], []
    shown = [metric for metric in METRICS if metric.label and metric.key in rows[-1]]
    best = min(rows, key=lambda row: row.get(patches.METRIC.key, float("inf")))
    lines = [
        {
            "epoch": row["epoch"], "best": row is best,
            "texts": [metric.text(row) for metric in shown],
        }
        for row in reversed(rows)
    ]  # fmt: skip
    return lines, shown
