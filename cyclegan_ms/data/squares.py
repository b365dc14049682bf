"""Images as tests and samples see them: squares from their middle."""

import numpy as np

from cyclegan_ms.config import DataConfig
from cyclegan_ms.data.broken import load_readable
from cyclegan_ms.data.domains import Domain
from cyclegan_ms.data.images import AnyImage, cut, fitted

__all__ = ["sample_images", "to_square"]


def to_square(image: AnyImage, config: DataConfig, finished: bool = False) -> np.ndarray:
    """Turn an image of a domain into (C, S, S) in [-1, 1] for testing, S `config.test_size`.

    As in training, with its middle in place of a random crop; all of it is seen, or as much as a
    square can show. One that is `finished` is cut to the crop size alone.
    """
    size = config.crop_size if finished else config.test_size
    fit = fitted(image, size, "crop" if finished else config.preprocess)
    return np.ascontiguousarray(cut(fit, size, lambda most: most // 2))


def sample_images(domain: Domain, config: DataConfig, count: int = 4) -> np.ndarray:
    """Return a fixed choice of images, spread over a domain: (count, C, S, S), see `to_square`.

    In place of one that cannot be read comes the next, but none twice: there may be fewer.
    """
    broken: dict[int, int] = {}
    images: dict[int, AnyImage] = {}
    for place in np.linspace(0, len(domain) - 1, min(count, len(domain))).astype(int).tolist():
        for offset in range(len(domain)):
            index = (place + offset) % len(domain)
            if index in images or index in broken:
                continue
            image = load_readable(domain, index, broken)
            if index not in broken:
                images[index] = image
                break
    return np.stack([to_square(it, config, domain.finished) for it in images.values()])
