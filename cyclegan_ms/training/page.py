"""A run's page, index.html: curves, sample grids by epoch, settings and environment."""

import html
from pathlib import Path
from string import Template

from cyclegan_ms.evaluate import patches
from cyclegan_ms.evaluate.run import METRICS
from cyclegan_ms.files import atomic_path
from cyclegan_ms.model.losses import Term
from cyclegan_ms.page import document, table_row
from cyclegan_ms.training.progress import loss_pairs, read_metrics

__all__ = ["write_page"]

_RUN = Template("""<p>$summary</p>
<p>A is $a, B is $b.</p>
<figure><img src="losses.png" alt="Loss curves"></figure>
<table>$losses</table>
$evaluations
<h2>Test images: real, translated, and back again</h2>
$samples
<h2>Settings</h2>
<pre>$config</pre>
<h2>Environment</h2>
<table>$environment</table>""")


def write_page(output, last: dict, terms: list[Term], domains, facts: dict[str, str]) -> None:
    """Write index.html of a run folder; it is readable from disk.

    Args:
        output: the run folder, with config.yaml, samples and perhaps evaluation.jsonl.
        last: the last line of metrics.jsonl.
        terms: the losses to show.
        domains: names of A and B.
        facts: from `environment`.
    """
    output = Path(output)
    losses = loss_pairs(last, terms)
    body = _RUN.substitute(
        summary=f"Epoch {last['epoch']}, step {last['step']}, {last['step_s']:.2f} s a step, "
        f"learning rate {last['learning_rate']:.2g}.",
        a=html.escape(domains[0]),
        b=html.escape(domains[1]),
        losses=table_row("th", losses) + table_row("td", losses.values()),
        evaluations=_evaluations(output / "evaluation.jsonl"),
        samples="\n".join(_figures(sorted((output / "samples").glob("epoch_*.png"), reverse=True))),
        config=html.escape((output / "config.yaml").read_text(encoding="utf-8")),
        environment="".join(table_row("td", item) for item in facts.items()),
    )
    with atomic_path(output / "index.html") as temporary:
        page = document(f"CycleGAN run {output.resolve().name}", body)
        temporary.write_text(page, encoding="utf-8")


def _evaluations(path):
    """Return a table of test metrics, means of both directions, a row per evaluated epoch."""
    rows = read_metrics(path) if path.exists() else []
    if not rows:  # also in a file from which a resume has dropped all lines
        return ""
    shown = [metric for metric in METRICS if metric.label and metric.key in rows[-1]]
    lines = [table_row("th", ("epoch", *(metric.label for metric in shown)))]
    lines += [
        table_row("td", (row["epoch"], *(metric.text(row) for metric in shown))) for row in rows
    ]
    nearest = patches.METRIC
    chosen = f"<p>best/ holds the epoch with the lowest {nearest.label}. {nearest.meaning}</p>"
    return f"<h2>Metrics of test images</h2>\n<table>{''.join(lines)}</table>\n{chosen}"


def _figures(paths):
    """Yield the sample grids, the newest open, the others folded."""
    for index, path in enumerate(paths):
        caption = f"epoch {int(path.stem.split('_')[1])}"
        image = f'<img loading="lazy" src="samples/{path.name}" alt="{caption}">'
        shown = " open" if index == 0 else ""
        yield f"<details{shown}><summary>{caption}</summary>{image}</details>"
