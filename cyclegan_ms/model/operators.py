"""Which operators networks are made of: those that are quick on CPU, or the plain ones.

Layers with a form of their own for CPU ask here while they are built. Elsewhere, and in files that
leave this machine, they are made of the plain operators.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import mindspore as ms

__all__ = ["Pictures", "for_cpu", "for_pictures", "pictures", "plain_operators"]

_plain = ContextVar("plain", default=False)

Pictures = Literal["small", "usual", "large"]
"""What a network is to see; `kernels.kind_of` says where the limits are."""
_pictures: ContextVar[Pictures] = ContextVar("pictures", default="usual")


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


def pictures() -> Pictures:
    """Return what a layer that is built now is to see."""
    return _pictures.get()


@contextmanager
def for_pictures(kind: Pictures) -> Iterator[None]:
    """Build networks of what is quick, and lean, for pictures of some size; they compute the same.

    Args:
        kind: their size.
    """
    before = _pictures.set(kind)
    try:
        yield
    finally:
        _pictures.reset(before)
