"""The real images of an evaluation, and those of them that turn out to be unreadable."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan_ms.config import Config
from cyclegan_ms.data.domains import Domain, Ranges
from cyclegan_ms.data.images import view_of
from cyclegan_ms.data.splits import find_root, load_split, load_tests
from cyclegan_ms.data.squares import to_square
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import shown

__all__ = ["RealImages", "spread"]

log = logging.getLogger(__name__)


class RealImages:
    """Test and training images of both domains.

    Args:
        config: the sections data and model are used.
        ranges: what black and white are in deep pictures of A and of B, as the generators have it.
        least_test: number of test images that each domain needs.
        least_train: number of training images that each needs.

    Raises:
        UserError: a domain has fewer.
    """

    def __init__(self, config: Config, ranges: Ranges, least_test: int, least_train: int):
        self.root, self.data = find_root(config.data.root), config.data
        # Where one domain is gray, colour would tell all: everybody sees brightness then.
        self.gray = config.model.channels_a != config.model.channels_b
        self.least = {"test": least_test, "training": least_train}
        self.trains = load_split(config, "train", ranges)
        self.tests = load_tests(config, [domain.range for domain in self.trains])
        self.left_out = {path for d in (*self.tests, *self.trains) for path in d.left_out}
        self.check("test", map(len, self.tests))
        self.check("training", map(len, self.trains))

    def check(self, kind: str, counts: Iterable[int]) -> None:
        """Raise UserError if a domain has too few images of a kind, test or training."""
        if min(counts) < self.least[kind]:
            raise UserError(
                f"data.root {self.root}: an evaluation needs at least {self.least[kind]} {kind} "
                f"images of each domain that can be read"
            )

    def squares(
        self, domain: Domain, indices: Iterable[int] | None = None
    ) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield file and values, (C, S, S) in [-1, 1], of the images that can be read."""
        for index in range(len(domain)) if indices is None else indices:
            path = domain.where(index)
            try:
                image = domain.load(index)
            except OSError as error:
                if path not in self.left_out:
                    log.warning("left out %s: %s", shown(path), error)
                    self.left_out.add(path)
                continue
            yield path, to_square(image, self.data, domain.finished)

    def training(self, domain: Domain, count: int) -> Iterator[Image.Image]:
        """Yield at most `count` readable training images, spread over the domain."""
        readable = [i for i in range(len(domain)) if domain.where(i) not in self.left_out]
        places = spread(len(readable), count)
        for _, square in self.squares(domain, [readable[place] for place in places]):
            yield view_of(square)

    def seen(self, pictures: Iterable[Image.Image]) -> Iterator[Image.Image]:
        """Yield pictures as judges see them."""
        return (picture.convert("L") if self.gray else picture for picture in pictures)


def spread(total: int, count: int) -> np.ndarray:
    """Return at most `count` places, spread over `total`."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)
