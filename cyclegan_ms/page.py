"""The HTML frame and style that every page of this package shares."""

import html
from collections.abc import Iterable
from string import Template

__all__ = ["document", "table_row"]

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
  dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; }
  pre { overflow: auto; padding: .8rem; border: 1px solid #8884; border-radius: 4px;
        font-size: .85rem; }
  details img { image-rendering: auto; }
</style>
<h1>$title</h1>
$body
</html>
""")


def document(title: str, body: str) -> str:
    """Return an HTML page with a title, given as text, and a body, given as HTML."""
    return _DOCUMENT.substitute(title=html.escape(title), body=body)


def table_row(cell: str, values: Iterable) -> str:
    """Return a row of an HTML table; `cell` is th or td, the values are escaped as text."""
    return "<tr>" + "".join(f"<{cell}>{html.escape(str(v))}</{cell}>" for v in values) + "</tr>"
