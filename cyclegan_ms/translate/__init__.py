"""A generator applied to any picture, file or folder.

`Translator` is loaded when it is first asked for: the checks of files and folders that come before
must not cost MindSpore's start-up time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclegan_ms.translate.translator import Translator

__all__ = ["Translator"]


def __getattr__(name: str):
    if name == "Translator":
        from cyclegan_ms.translate.translator import Translator

        return Translator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
