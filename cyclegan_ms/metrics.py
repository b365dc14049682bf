"""What can be measured of one translated image, and what that needs. Imports no MindSpore."""

from pathlib import Path

import numpy as np

from cyclegan_ms.config import Config, UserError
from cyclegan_ms.data import from_chw, load_domains

__all__ = [
    "INVERTED",
    "correlation",
    "image_metrics",
    "load_tests",
    "mean_metrics",
    "require_skimage",
]

INVERTED = -0.2
"""A translation whose brightness correlates with its original's below this is inverted."""


def require_skimage():
    """The module skimage.metrics.

    Raises:
        UserError: scikit-image is not installed.
    """
    try:
        import skimage.metrics
    except ImportError as error:
        raise UserError("an evaluation needs scikit-image: pip install -e '.[evaluate]'") from error
    return skimage.metrics


def load_tests(config: Config):
    """The test images of both domains.

    Raises:
        UserError: there are none.
    """
    if Path(config.data.root).is_file():
        raise UserError(
            f"data.root {config.data.root} is a file, which has no test images; an "
            f"evaluation needs a folder with trainA, trainB, testA and testB"
        )
    return load_domains(config.data, "test", (config.model.channels_a, config.model.channels_b))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, of the brightness of two images (C, H, W); 0 where one of them is flat.

    Brightness is the mean of the channels: another hue, which is what most translations are for,
    counts for nothing, a negative gives -1.
    """
    x, y = (image.mean(axis=0).ravel() for image in (x, y))
    x, y = x - x.mean(), y - y.mean()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / size) if size > 1e-6 else 0.0


def image_metrics(real, fake, rec, idt=None) -> dict[str, float]:
    """The metrics of one image.

    cycle_l1: mean |rec - real|, in units of [-1, 1]: the cycle loss without its weight.
    psnr: of rec against real, in dB, both as 8-bit images (range 255); 100 where they are equal.
    ssim: likewise, with the Gaussian window of Wang et al. 2004 (11 pixels, sigma 1.5), the mean
    over channels.
    idt_l1: mean |idt - real|, in units of [-1, 1]; only with `idt`.
    correlation: of fake with real, see `correlation`.

    Args:
        real: an image (C, H, W) in [-1, 1], its sides at least 11.
        fake: what a generator makes of it.
        rec: what the other generator makes of `fake`.
        idt: what the other generator makes of `real`, which is of its target domain already.
    """
    metrics = require_skimage()
    original, result = (np.asarray(from_chw(image)) for image in (real, rec))
    with np.errstate(divide="ignore"):
        psnr = metrics.peak_signal_noise_ratio(original, result, data_range=255)
    ssim = metrics.structural_similarity(
        original, result, data_range=255, channel_axis=2 if original.ndim == 3 else None,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    values = {"cycle_l1": _l1(rec, real), "psnr": min(float(psnr), 100.0), "ssim": float(ssim)}
    if idt is not None:
        values["idt_l1"] = _l1(idt, real)
    return {**values, "correlation": correlation(real, fake)}


def _l1(x, y):
    return float(np.abs(x - y).mean())


def mean_metrics(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means of `image_metrics` over images, and `inverted`, the share below `INVERTED`."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {**means, "inverted": float(np.mean([row["correlation"] < INVERTED for row in rows]))}
