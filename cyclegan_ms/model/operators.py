"""Which operators networks are made of: those that are quick on CPU, or the plain ones.

Layers with a form of their own for CPU ask here while they are built. Elsewhere, and in files that
leave this machine, they are made of the plain operators.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mindspore as ms

__all__ = ["for_cpu", "for_large_pictures", "large_pictures", "plain_operators"]

_plain = ContextVar("plain", default=False)
_large = ContextVar("large", default=False)


def for_cpu() -> bool:
    """Return whether a layer that is built now is to use the operators that are quick on CPU."""
    return not _plain.get() and ms.get_context("device_target") == "CPU"


@contextmanager
def plain_operators() -> Iterator[None]:
    """Build networks as for an accelerator, on any device; they compute the same on CPU."""
    before = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(before)


def for_large_pictures() -> bool:
    """Return whether a layer that is built now is to see pictures of megapixels."""
    return _large.get()


@contextmanager
def large_pictures() -> Iterator[None]:
    """Build networks without what is quick for small maps, but needs memory for large ones."""
    before = _large.set(True)
    try:
        yield
    finally:
        _large.reset(before)
