"""The page of translated pictures, index.html beside them: before and after, notes, failures."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cyclegan_ms.data.images import AnyImage, convert_image, view_of
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import atomic_path, shown
from cyclegan_ms.page import address_from, address_of, is_ours, render

__all__ = ["Album", "check_page"]

INDEX, THUMBS = "index.html", ".page"
_AFTER = ".after.jpg"
LONGEST_ENDING = ".before.jpg"
"""that the name of a copy has after the picture's name"""
SIDE = 480
"""Longest side of the pictures that a page shows, in pixels."""


def check_page(output) -> None:
    """Raise UserError if a page cannot be written there without losing another file."""
    index = Path(output) / INDEX
    if os.path.lexists(index) and not is_ours(index):
        raise UserError(f"--page: {index} exists already, and is no page of this package")


@dataclass
class Album:
    """What a page shows, gathered while pictures are translated: small copies, on the disk.

    Args:
        folder: where the results are, and the page will be.
        side: longest side of the copies, in pixels.
    """

    folder: Path
    side: int = SIDE

    def add(self, target: Path, original: AnyImage | None, results: list[AnyImage], notes) -> None:
        """Keep small copies of a picture and of what was made of it.

        Args:
            target: where the result is.
            original: the picture; None if the result shows it already.
            results: the translation, and perhaps what became of it on the way back.
            notes: what was changed or lost.

        Raises:
            OSError: they cannot be written.
        """
        name = self._name(target)
        about: dict[str, str | list[str]] = {"notes": list(notes)}
        self._place(f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
        shown_images = dict(zip(("before", "after", "back"), (original, *results)))
        for part, image in shown_images.items():
            if image is not None:
                small, size = _small(image, self.side)
                with atomic_path(self._place(f"{name}.{part}.jpg")) as temporary:
                    small.save(temporary, "JPEG", quality=88)
                about["size"] = f"{size[0]} x {size[1]}"
        with atomic_path(self._place(f"{name}.json")) as temporary:
            temporary.write_text(json.dumps(about), encoding="utf-8")

    def write(
        self,
        title: str,
        targets: list[Path],
        failed: dict[str, str],
        facts: list,
        run_page: Path | None = None,
    ) -> Path:
        """Write the page and return its place; pictures of earlier runs stay on it, at its end.

        Args:
            title: of the page.
            targets: where the results are or would be, in the order shown.
            failed: reasons, by the names of inputs.
            facts: pairs of a label and a value.
            run_page: the page of the run that the generator is from.

        Raises:
            OSError: it cannot be written.
        """
        shown_targets = dict.fromkeys([*targets, *self._earlier()])
        cards = [card for target in shown_targets if (card := self._card(target))]
        index = self.folder / INDEX
        run = run_page and address_from(index, run_page)
        page = render(
            "translations.html", title=title, cards=cards, failed=failed, facts=facts, first=60,
            run=run,
        )  # fmt: skip
        with atomic_path(index) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return index

    def pictures(self, target: Path) -> tuple[str, str]:
        """Return the small copies of a picture and of its translation."""
        name = self._name(target)
        before, after = (self._place(f"{name}.{part}.jpg") for part in ("before", "after"))
        return str(before), str(after)

    def _place(self, name):
        """Return where a small copy, or what is known of it, lies."""
        return self.folder / THUMBS / name

    def _card(self, target):
        """Describe a picture for the page; None if there is no result."""
        name = self._name(target)
        if not target.exists():
            return None
        found = {"name": shown(name), "file": address_of(name)}
        with contextlib.suppress(OSError, ValueError):  # a page of an earlier version has none
            found |= json.loads(self._place(f"{name}.json").read_text(encoding="utf-8"))
        for part in ("before", "after", "back"):
            small = f"{name}.{part}.jpg"
            if self._place(small).exists():
                found[part] = address_of(f"{THUMBS}/{small}")
        return found

    def _earlier(self):
        """Return the places of all results that there are copies of."""
        copies = sorted((self.folder / THUMBS).rglob(f"*{_AFTER}"))
        names = (copy.relative_to(self.folder / THUMBS) for copy in copies)
        return [self.folder / name.with_name(name.name.removesuffix(_AFTER)) for name in names]

    def _name(self, target):
        return target.relative_to(self.folder).as_posix()


def _small(image, side):
    """Return a small copy as RGB on white, and the size that the image has."""
    if not isinstance(image, Image.Image):
        image = view_of(image)
    size = image.size
    # Reduced first: a large picture need not be laid on white as a whole.
    if max(size) > side:
        image = image.resize(_within(size, side), reducing_gap=3)
    return convert_image(image), size


def _within(size, side):
    scale = side / max(size)
    return tuple(max(1, round(extent * scale)) for extent in size)
