"""What this package shows its results in: pages from templates, tables of text."""

import html
import logging
import os
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from cyclegan_ms.files import atomic_path, shown

__all__ = ["SMALL", "add_link", "address_from", "address_of", "is_ours", "markdown_table",
           "page_of_run", "render"]  # fmt: skip

SMALL = 128
"""Side of pictures below which a page shows their pixels, and does not smooth them."""

log = logging.getLogger(__name__)

_OURS = '<meta name="generator" content="cyclegan_ms">'
_LINKS = "<!-- links -->"


@cache
def _templates():
    return Environment(
        loader=PackageLoader("cyclegan_ms"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def render(template: str, **values) -> str:
    """Return a page, HTML that needs no other file but pictures; values are escaped as text."""
    return _templates().get_template(template).render(values, ours=_OURS, links_end=_LINKS)


def is_ours(path: Path) -> bool:
    """Return whether a file is a page of this package."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return _OURS in file.read(500)
    except OSError:
        return False


def page_of_run(place: Path) -> Path | None:
    """Return the page of the run that generators are of, if there is one.

    Args:
        place: the run, its best/, a kept epoch, or a file in one of them.
    """
    for folder in (place, *place.resolve().parents[:2]):
        page = folder / "index.html"
        if is_ours(page) and _LINKS in page.read_text(encoding="utf-8"):
            return page
    return None


def address_of(path) -> str:
    """Return a relative path as an address in a page, whatever characters its name has."""
    return quote(os.fsencode(Path(path).as_posix()))


def address_from(page: Path, target: Path) -> str:
    """Return where a file is, as an address in a page."""
    return address_of(os.path.relpath(target.resolve(), page.resolve().parent))


def add_link(page: Path | None, target: Path, words: str) -> None:
    """Let the page of a run, from `page_of_run`, lead to another one.

    Nothing happens where the link is there already; a page that cannot be written, such as a
    colleague's, is told of.
    """
    if page is None:
        return
    text = page.read_text(encoding="utf-8")
    address = address_from(page, target)
    if f'href="{address}"' not in text:
        link = f'<a class="button" href="{address}">{html.escape(shown(words))}</a> {_LINKS}'
        try:
            with atomic_path(page) as temporary:
                temporary.write_text(text.replace(_LINKS, link, 1), encoding="utf-8")
        except OSError as error:
            log.warning("%s gets no link to it: %s", shown(page), error.strerror)


def markdown_table(rows: list[list[str]], words: int = 1) -> list[str]:
    """Return the lines of a table in Markdown, with columns that are straight in a terminal too.

    Args:
        rows: its texts, headings first.
        words: number of columns, from the left, that hold words; the others hold numbers.
    """
    widths = [max(map(len, (*column, "---"))) for column in zip(*rows)]
    head, *body = (
        [
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths))
        ]
        for row in rows
    )
    rule = ["-" * (width - 1) + "-:"[column >= words] for column, width in enumerate(widths)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
