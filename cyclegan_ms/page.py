"""A run's page: curves, sample grids by epoch, settings and environment, readable from disk.

Other pages are put into the same `document`.
"""

import html
import platform
from importlib.metadata import version
from pathlib import Path
from string import Template

from cyclegan_ms.device import Device
from cyclegan_ms.files import atomic_path
from cyclegan_ms.report import MEASURES, read_metrics

__all__ = ["document", "environment", "table_row", "write_page"]

_DOCUMENT = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto;
         padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
  img { max-width: 100%; background: white; border-radius: 4px; }
  figure { margin: 1rem 0; } figcaption { font-size: .85rem; opacity: .75; }
  table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left;
         font-variant-numeric: tabular-nums; }
  pre { overflow: auto; padding: .8rem; border: 1px solid #8884; border-radius: 4px;
        font-size: .85rem; }
  details img { image-rendering: auto; }
</style>
<h1>$title</h1>
$body
</html>
""")

_RUN = Template("""<p>$summary</p>
<figure><img src="losses.png" alt="Loss curves"></figure>
<table>$losses</table>
$evaluations
<h2>Test images: real, translated, and back again</h2>
$samples
<h2>Settings</h2>
<pre>$config</pre>
<h2>Environment</h2>
<table>$environment</table>""")


def document(title: str, body: str) -> str:
    """An HTML page: a title, as text, and what comes below it, as HTML."""
    return _DOCUMENT.substitute(title=html.escape(title), body=body)


def environment(device: Device, *more: str) -> dict[str, str]:
    """What a run depended on besides its settings; `more` are packages to name the versions of."""
    facts = {name: version(name) for name in ("mindspore", "numpy", "pillow", *more)}
    facts["python"] = platform.python_version()
    facts["device"] = device.target
    if device.workers > 1:
        facts["workers"] = str(device.workers)
    return {**facts, "machine": f"{platform.system()} {platform.machine()}"}


def write_page(output, rows: list[dict], facts: dict[str, str]) -> None:
    """Write index.html of a run folder.

    Args:
        output: the run folder, with config.yaml, samples and perhaps evaluation.jsonl.
        rows: the lines of metrics.jsonl.
        facts: from `environment`.
    """
    output = Path(output)
    last = rows[-1]
    losses = {k: v for k, v in last.items() if k not in ("epoch", "step", *MEASURES)}
    body = _RUN.substitute(
        summary=f"Epoch {last['epoch']}, step {last['step']}, {last['step_s']:.2f} s a step, "
        f"learning rate {last['learning_rate']:.2g}.",
        losses=table_row("th", losses)
        + table_row("td", [f"{value:.3f}" for value in losses.values()]),
        evaluations=_evaluations(output / "evaluation.jsonl"),
        samples="\n".join(_figures(sorted((output / "samples").glob("epoch_*.png"), reverse=True))),
        config=html.escape((output / "config.yaml").read_text(encoding="utf-8")),
        environment="".join(table_row("td", item) for item in facts.items()),
    )
    with atomic_path(output / "index.html") as temporary:
        page = document(f"CycleGAN run {output.resolve().name}", body)
        temporary.write_text(page, encoding="utf-8")


def table_row(cell: str, values) -> str:
    """A row of a table, from texts; `cell` is th or td."""
    return "<tr>" + "".join(f"<{cell}>{html.escape(str(v))}</{cell}>" for v in values) + "</tr>"


def _evaluations(path):
    """The metrics of test images, means of both directions, a row for each evaluated epoch."""
    rows = read_metrics(path) if path.exists() else []
    if not rows:  # also in a file from which a resume has dropped all lines
        return ""
    names = [name for name in rows[0] if f"{name}_a" in rows[0]]
    lines = [table_row("th", ("epoch", *names))]
    lines += [table_row("td", (r["epoch"], *(f"{r[n]:.3f}" for n in names))) for r in rows]
    return f"<h2>Metrics of test images</h2>\n<table>{''.join(lines)}</table>"


def _figures(paths):
    """The newest grid open, the others folded away."""
    for index, path in enumerate(paths):
        caption = f"epoch {int(path.stem.split('_')[1])}"
        image = f'<img loading="lazy" src="samples/{path.name}" alt="{caption}">'
        shown = " open" if index == 0 else ""
        yield f"<details{shown}><summary>{caption}</summary>{image}</details>"
