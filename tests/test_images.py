"""Reading pictures: modes, transparency, orientation, and large ones at less than their size."""

import numpy as np
import pytest
from helpers import photograph
from PIL import Image

from cyclegan_ms.data.images import from_chw, read_image, to_chw

pytestmark = pytest.mark.quick


def saved(path, image, **options):
    image.save(path, **options)
    return path


def pixel(image, x=0, y=0):
    return image.getpixel((x, y))


def test_range_and_inverse(rng):
    image = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    pixels = to_chw(image)
    assert pixels.shape == (3, 5, 7) and pixels.dtype == np.float32
    assert to_chw(Image.new("RGB", (1, 1), (0, 255, 51)))[:, 0, 0].tolist() == pytest.approx(
        [-1, 1, -0.6]
    )
    assert np.array_equal(np.asarray(from_chw(pixels)), np.asarray(image))
    gray = image.convert("L")
    assert np.array_equal(np.asarray(from_chw(to_chw(gray))), np.asarray(gray))


def test_gray_becomes_rgb(tmp_path):
    path = saved(tmp_path / "g.png", Image.new("L", (4, 4), 77))
    assert pixel(read_image(path)) == (77, 77, 77)
    assert read_image(path, channels=1).mode == "L"


def test_palette_with_transparency_is_laid_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "p.png", image, transparency=0)
    assert [pixel(read_image(path), x) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]


def test_alpha_is_laid_on_white(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGBA", (2, 2), (0, 0, 0, 51)))
    assert pixel(read_image(path)) == (204, 204, 204)


def test_cmyk_keeps_its_colors(tmp_path):
    path = saved(tmp_path / "c.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0)))
    red, green, blue = pixel(read_image(path))
    assert red > 200 and green < 60 and blue < 60


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is at the right: turn by 90 degrees clockwise
    turned = read_image(saved(tmp_path / "e.jpg", image, exif=exif, quality=95))
    assert turned.size == (10, 20)
    assert pixel(turned, 5, 3)[0] > 240 and pixel(turned, 5, 17)[0] < 15


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("channels", [3, 1])
def test_large_jpegs_are_decoded_at_twice_the_size_or_more(tmp_path, rng, mode, turned, channels):
    exif = Image.Exif()
    exif[0x0112] = turned
    path = saved(tmp_path / "p.jpg", photograph(rng, 1216, 912).convert(mode), exif=exif)
    full = read_image(path, channels)
    for side, size in ((36, (152, 114)), (100, (304, 228)), (228, (608, 456)), (229, (1216, 912))):
        reduced = read_image(path, channels, side=side)
        assert reduced.size == (size if turned == 1 else size[::-1])
        assert reduced.mode == full.mode
        expected, found = (
            np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), float)
            for image in (full, reduced)
        )
        difference = np.abs(found - expected)
        assert difference.mean() < 0.5 and difference.max() <= 8, (side, difference.max())


def test_sides_that_no_power_of_two_divides(tmp_path, rng):
    """The last row stands for less than the others: half a pixel of the square, at most."""
    path = saved(tmp_path / "odd.jpg", photograph(rng, 1201, 897))
    reduced = read_image(path, side=36)
    assert reduced.size == (151, 113)
    full = read_image(path).resize((36, 36), Image.Resampling.BICUBIC)
    found = reduced.resize((36, 36), Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(found, float) - np.asarray(full, float))
    steepest = np.abs(np.diff(np.asarray(full, float), axis=0)).max()
    assert difference.max() < steepest / 2


def test_what_is_no_large_jpeg_is_decoded_as_it_is(tmp_path, rng):
    image = photograph(rng, 400, 300)
    for name in ("a.png", "a.webp", "a.tif"):
        path = saved(tmp_path / name, image)
        assert read_image(path, side=36).tobytes() == read_image(path).tobytes()
    narrow = saved(tmp_path / "narrow.jpg", photograph(rng, 1600, 70))
    assert read_image(narrow, side=36).size == (1600, 70)
    second = photograph(rng, 400, 300)
    several = saved(tmp_path / "several.mpo", image, save_all=True, append_images=[second])
    assert read_image(several, side=36).size == (100, 75)
