"""What an evaluation leaves behind: report.json, a table, a page of best and worst cases."""

import base64
import io
import json
import math
import os
from contextlib import ExitStack
from pathlib import Path

from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate.recognition import class_name
from cyclegan_ms.evaluate.run import CASES, METRICS, Case
from cyclegan_ms.files import atomic_path, check_writable, shown
from cyclegan_ms.page import SMALL, address_from, markdown_table, render

__all__ = ["check_outputs", "markdown", "write_report"]

TRUSTED = 0.75
"""Accuracy on held-out images below which a classifier is called no judge; chance is 0.5."""
FEW = 50
"""Number of test images below which distances of their features are said to tell little."""


def check_outputs(output, endings=(".json", ".md", ".html")) -> dict[str, Path]:
    """Return the files of a report by their endings, none of which exists yet.

    Args:
        output: that which ends in .json.
        endings: .json, and those of the files beside it.

    Raises:
        UserError: one exists or cannot be written, or `output` does not end in .json.
    """
    output = Path(output)
    if output.suffix != ".json":
        others = " and ".join(ending for ending in endings if ending != ".json")
        beside = f"{others} {'go' if ' ' in others else 'goes'} beside it"
        raise UserError(f"--output {output} must end in .json; {beside}")
    paths = {ending: output.with_suffix(ending) for ending in endings}
    for path in paths.values():
        if os.path.lexists(path):
            raise UserError(
                f"--output: {path} exists already; give another, nothing is overwritten"
            )
    check_writable(output.parent)
    return paths


def table(report: dict) -> list[list[str]]:
    """Return the metrics of a report as rows of text, headings first."""
    columns = {**report["directions"], "mean": report["mean"]}
    rows = [["", *columns]]
    for metric in _reported(report):
        rows.append([metric.label, *map(metric.text, columns.values())])
    return rows


def _reported(report):
    """List the metrics that a report has and a table shows."""
    found = {key for values in report["directions"].values() for key in values}
    return [metric for metric in METRICS if metric.label and metric.key in found]


def notes(report: dict) -> list[str]:
    """Return what the table has to be read with, in sentences."""
    judge, size, crop = report["classifier"], report["image_size"], report["crop_size"]
    fewest = min(columns["images"] for columns in report["directions"].values())
    few = f" Only {fewest} test images: with fewer than {FEW} these numbers say little."
    lines = [
        f"Epoch {report['epoch']}, test images of {size} x {size} pixels"
        f"{f': whole pictures, of which training saw parts of {crop}' if crop != size else ''}."
        f"{few if fewest < FEW else ''}",
        f"The classifier is right on {judge['held_out_accuracy']:.1%} of "
        f"{sum(judge['held_out'])} training images held out, and on {judge['test_accuracy']:.1%} "
        f"of the real test images (means of both domains).",
    ]
    if judge["held_out_accuracy"] < TRUSTED:
        lines.append("That is too little: what it takes translations for says nothing.")
    if report["left_out"]:
        lines.append(f"Left out, as they cannot be read: {', '.join(report['left_out'])}.")
    if report["max_images"]:
        lines.append(f"Only the first {report['max_images']} images of each folder (max_images).")
    if report["judged_in_gray"]:
        lines.append("One domain is gray: classifier and features see brightness alone.")
    lines.append(_recognition(report["recognition"]))
    if "features" in report:
        used = " and ".join(map(str, report["features"]["real_training_images"]))
        lines.append(
            f"FID and KID with {report['features']['network']}, {report['features']['dimensions']} "
            f"features, only to be compared with values of the same network, image size and "
            f"numbers of images; of real training images {used} are taken."
        )
    return lines


def _recognition(found):
    """Say which classes tell a domain, with their shares of target and source."""
    parts = []
    for direction, classes in found["classes"].items():
        shares = [
            f"{class_name(int(number))} ({of:.0%}, {other:.0%})"
            for number, (of, other) in classes.items()
        ]
        parts.append(f"{direction}: {', '.join(shares) or 'none, so that nothing can be said'}")
    return (
        f"ImageNet's classes that tell the target domain for {found['network']}, with their shares "
        f"of the real training images of target and source: {'; '.join(parts)}. It has "
        f"learnt from photographs, and tells little of drawings."
    )


def markdown(report: dict) -> str:
    """Return the table and its notes as Markdown."""
    return "\n".join([*markdown_table(table(report)), "", *notes(report), ""])


def write_report(
    paths: dict[str, Path],
    report: dict,
    cases: dict[str, list[Case]],
    run_page: Path | None = None,
) -> None:
    """Write report.json, report.md and report.html, all three or none.

    Args:
        paths: from `check_outputs`.
        report: from `evaluate`.
        cases: from `evaluate`.
        run_page: the page of the run, which the report's is to lead to.

    Raises:
        UserError: a file cannot be written.
    """
    texts = {
        ".json": json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False),
        ".md": markdown(report),
        ".html": _page(report, cases, run_page and address_from(paths[".html"], run_page)),
    }
    folder = paths[".json"].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for ending, path in paths.items():
                temporary = stack.enter_context(atomic_path(path))
                temporary.write_text(texts[ending], encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output in {folder}: {error.strerror or error}; not written") from error


def _page(report, cases, run):
    columns = {**report["directions"], "mean": report["mean"]}
    rows = [(it, [it.text(values) for values in columns.values()]) for it in _reported(report)]
    groups = []
    for direction, found in cases.items():
        ranked = sorted(found, key=lambda case: -case.metrics["target_logit"])
        some = min(CASES, len(ranked) // 2)  # nothing is among both
        for word, chosen in (("best", ranked[:some]), ("worst", ranked[::-1][:some])):
            shown_cases = [_case(case) for case in chosen]
            groups.append({"direction": direction, "word": word, "cases": shown_cases})
    title = f"Evaluation of {Path(report['checkpoint']).name}"
    texts = {"title": title, "columns": list(columns), "rows": rows, "notes": notes(report)}
    return render("report.html", **texts, groups=groups, run=run)


def _case(case):
    values = case.metrics
    # As the classifier's log-odds say; beyond 99.99 % they no longer differ.
    sure = 1 / (1 + math.exp(-values["target_logit"]))
    words = (
        f"by the classifier {min(sure, 0.9999):.2%} target; there and back PSNR "
        f"{values['psnr']:.1f} dB, SSIM {values['ssim']:.2f}"
    )
    pictures = {name: _inlined(getattr(case, name)) for name in ("real", "fake", "rec")}
    small = case.real.width < SMALL
    return {"name": shown(case.name), "words": words, "small": small, **pictures}


def _inlined(picture):
    """Return a picture as an address that holds all of it."""
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
