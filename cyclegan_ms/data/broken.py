"""Images that cannot be read: the next one stands in for each of them."""

import threading

from cyclegan_ms.bar import bar
from cyclegan_ms.data.domains import Domain, warn_skipped
from cyclegan_ms.data.formats import twice
from cyclegan_ms.data.images import AnyImage
from cyclegan_ms.errors import UserError

__all__ = ["count_broken", "load_readable"]

_reporting = threading.Lock()


def load_readable(domain: Domain, index: int, broken: dict[int, int], number: int = 0) -> AnyImage:
    """Load an image, or in place of a broken one the next that can be read. Warn of each once.

    An image is broken if it cannot be read twice in a row.

    Args:
        domain: the images.
        index: which image.
        broken: the images found broken, and the number of the first pair that did without each; new
            ones are added.
        number: number of the pair that the image is for.

    Raises:
        UserError: no image of the domain can be read any more.
    """
    added = []
    for offset in range(len(domain)):
        place = (index + offset) % len(domain)
        if broken.get(place, number + 1) <= number:
            continue
        try:
            return twice(domain.load, place)
        except OSError as error:
            with _reporting:
                if place not in broken:
                    warn_skipped(domain.where(place), error)
                    added.append(place)
                broken[place] = min(number, broken.get(place, number))
    for place in added:  # the folder is gone, not each of its images: they may come back
        broken.pop(place, None)
    raise UserError(f"{domain.where(0).parent}: none of its images can be decoded")


def count_broken(domain: Domain, progress: bool = False) -> int:
    """Read every image, warn of each that cannot be read, and return how many these are.

    Args:
        domain: the images.
        progress: whether to draw a bar.

    Raises:
        UserError: no image can be read.
    """
    broken: dict[int, int] = {}
    words = f"reading {domain.where(0).parent.name}"
    hidden = not progress
    for index in bar(range(len(domain)), desc=words, unit="image", disable=hidden, leave=False):
        if index not in broken:
            load_readable(domain, index, broken)
    return len(broken)
