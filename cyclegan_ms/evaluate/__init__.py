"""Metrics of pictures and of finished runs.

`evaluate` is loaded when it is first asked for: checking what an evaluation needs must not cost
MindSpore's start-up time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclegan_ms.evaluate.run import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str):
    if name == "evaluate":
        from cyclegan_ms.evaluate.run import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
