"""The pages that this package writes: templates with one style, whole in one file each."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render"]


@cache
def _templates():
    return Environment(
        loader=PackageLoader("cyclegan_ms"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def render(template: str, **values) -> str:
    """Return a page, HTML that needs no other file but pictures; values are escaped as text."""
    return _templates().get_template(template).render(values)
