"""Training: one step, the loop, what watches it, and what it leaves on the disk.

`train` is loaded when it is first asked for: checking settings and folders must not cost
MindSpore's start-up time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclegan_ms.training.trainer import train

__all__ = ["train"]


def __getattr__(name: str):
    if name == "train":
        from cyclegan_ms.training.trainer import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
