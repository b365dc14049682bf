"""Pictures that are no squares, and very large ones: what comes before the crop."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.data.images import at_least, fitted, to_chw
from cyclegan_ms.data.splits import load_domains
from cyclegan_ms.data.squares import sample_images, to_square
from cyclegan_ms.data.stream import UnpairedStream, augment
from cyclegan_ms.errors import UserError
from cyclegan_ms.training.cyclegan import generator_spec

pytestmark = pytest.mark.quick


def disc(width, height, radius):
    """A white disc in the middle of black."""
    image = Image.new("L", (width, height))
    x, y = (width - 1) / 2, (height - 1) / 2
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return image


def extent(pixels):
    """Width and height in pixels of what is white in (1, H, W)."""
    white = pixels[0] > 0
    return int(white.any(0).sum()), int(white.any(1).sum())


def config(preprocess, load=64, crop=64, **others):
    return DataConfig(load_size=load, crop_size=crop, preprocess=preprocess, **others)


@pytest.mark.parametrize(
    "preprocess, expected",
    [
        # 200x100 to 64x64: a disc of 80 is 25.6 wide and 51.2 high.
        ("resize_and_crop", (26, 51)),
        # Its shorter side to 64: 51.2 both ways.
        ("scale_and_crop", (51, 51)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_circle_stays_a_circle(preprocess, expected, turned):
    image = disc(200, 100, 40)
    if turned:
        image, expected = image.rotate(90, expand=True), expected[::-1]
    square = to_square(image, config(preprocess))
    assert square.shape == (1, 64, 64)
    assert np.abs(np.subtract(extent(square), expected)).max() <= 1


@pytest.mark.parametrize(
    "preprocess, load, crop, side",
    [
        ("resize_and_crop", 286, 256, 256),  # the paper's: nearly all of a picture is in its crop
        ("resize_and_crop", 72, 64, 64),
        ("scale_and_crop", 64, 64, 64),
        ("scale_and_crop", 143, 64, 128),  # parts: 143 * 256 / 286
        ("scale_and_crop", 128, 64, 116),  # 114.6, to a multiple of 4
        ("crop", 143, 64, 64),
    ],
)
def test_test_images_show_things_as_large_as_training_did(preprocess, load, crop, side):
    settings = config(preprocess, load, crop)
    square = to_square(disc(200, 200, 50), settings)
    assert square.shape == (1, side, side)
    if preprocess == "crop":
        return  # as it is: the disc fills it
    width, height = extent(square)  # half of the picture
    assert abs(width - side / 2) <= 1 and abs(height - side / 2) <= 1
    spec = generator_spec(Config(data=settings), "a2b", 1)
    assert spec.image_size == side


def test_training_crops_keep_the_shape():
    """A disc that fills the picture's height: every crop from the middle shows it whole."""
    image = disc(300, 100, 49)
    crops = [
        augment(image, config("scale_and_crop", 64, 64), np.random.default_rng(i))
        for i in range(200)
    ]
    widths, heights = zip(*map(extent, crops))
    assert max(widths) in (62, 63, 64) and max(heights) in (62, 63, 64)
    assert min(widths) < 20  # crops lie anywhere along the longer side


def test_a_crop_is_a_part_of_the_picture_as_it_is(rng):
    image = Image.fromarray(rng.integers(0, 256, (50, 80), np.uint8))
    whole = to_chw(image)
    middle = to_square(image, config("crop", 1, 32))
    assert np.array_equal(middle, whole[:, 9:41, 24:56])
    seen = set()
    for i in range(60):
        part = augment(image, config("crop", 1, 32, flip=False), np.random.default_rng(i))
        places = [
            (top, left)
            for top in range(19)
            for left in range(49)
            if np.array_equal(part, whole[:, top : top + 32, left : left + 32])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len({top for top, _ in seen}) > 12 and len({left for _, left in seen}) > 25


def test_what_is_smaller_than_the_crop_is_mirrored_at_its_edges():
    pixels = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert at_least(pixels, 5).tolist() == [
        [[0, 0, 1, 2, 2], [0, 0, 1, 2, 2], [3, 3, 4, 5, 5], [3, 3, 4, 5, 5], [0, 0, 1, 2, 2]]
    ]
    one = at_least(np.full((3, 1, 1), 0.5, np.float32), 8)
    assert one.shape == (3, 8, 8) and (one == 0.5).all()
    small = Image.fromarray(np.full((20, 40, 3), 77, np.uint8))
    part = augment(small, config("crop", 1, 32), np.random.default_rng(0))
    assert part.shape == (3, 32, 32) and np.unique(part).size == 1


def test_of_a_long_strip_the_middle_is_scaled():
    """A strip of 1 x 5000 pixels would become 36 x 180000."""
    strip = Image.new("L", (5000, 1), 0)
    strip.paste(255, (2490, 0, 2510, 1))  # 20 times its width
    assert fitted(strip, 36, "scale_and_crop").size == (720, 36)
    part = augment(strip, config("scale_and_crop", 36, 32), np.random.default_rng(0))
    assert part.shape == (1, 32, 32) and (part == 1).all()
    assert fitted(Image.new("L", (40, 800)), 20, "scale_and_crop").size == (20, 400)


@pytest.mark.parametrize("preprocess", ["resize_and_crop", "scale_and_crop", "crop"])
def test_samples_and_training_follow(preprocess, tmp_path):
    for folder in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / folder).mkdir()
        disc(400, 200, 80).save(tmp_path / folder / "0.png")
    settings = config(preprocess, 36, 32, root=str(tmp_path), flip=False)
    domains = load_domains(settings, "test", (1, 1))
    samples = sample_images(domains[0], settings)
    assert samples.shape == (1, 1, 32, 32)
    expected = {"resize_and_crop": (13, 26), "scale_and_crop": (26, 26), "crop": (32, 32)}
    assert np.abs(np.subtract(extent(samples[0]), expected[preprocess])).max() <= 1
    pair = UnpairedStream(*load_domains(settings, "train", (1, 1)), settings)[0]
    assert [image.shape for image in pair] == [(1, 32, 32)] * 2


def test_large_jpegs_are_decoded_for_the_shorter_side(tmp_path):
    """2 x 36 pixels or more of it; as they are where nothing is resized."""
    for folder in ("trainA", "trainB"):
        (tmp_path / folder).mkdir()
        disc(1600, 800, 300).convert("RGB").save(tmp_path / folder / "0.jpg")
    sizes = {
        preprocess: load_domains(config(preprocess, 36, 32, root=str(tmp_path)), "train")[0]
        .load(0)
        .size
        for preprocess in ("resize_and_crop", "scale_and_crop", "crop")
    }
    assert sizes["resize_and_crop"] == sizes["scale_and_crop"] == (200, 100)
    assert sizes["crop"] == (1600, 800)


def test_a_mindrecord_file_is_finished(tmp_path):
    (tmp_path / "x.mindrecord").touch()
    settings = config("crop", root=str(tmp_path / "x.mindrecord"))
    with pytest.raises(UserError, match=r"finished images: data\.preprocess crop is for folders"):
        load_domains(settings, "train")


def test_load_size_does_not_matter_without_a_resize():
    assert Config(config("crop", 16, 32)).data.load_size == 16
    with pytest.raises(UserError, match=r"data\.load_size \(16\) is smaller than data\.crop_size"):
        Config(config("scale_and_crop", 16, 32))


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_pictures_above_the_limit_are_left_out_and_named(kind, tmp_path):
    """Pillow's own warnings, from 89 megapixels on, are not heard, on opening or decoding."""
    Image.new("1", (12_000, 10_000)).save(tmp_path / f"large.{kind}")
    Image.new("1", (100, 100)).save(tmp_path / f"small.{kind}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        domain = FolderDomain(tmp_path, max_megapixels=100)
        with pytest.raises(OSError) as error:
            domain.load(0)
        assert domain.load(1).size == (100, 100)
        assert FolderDomain(tmp_path, channels=1).load(0).size == (12_000, 10_000)
    assert str(error.value) == "12000x10000 pixels, more than data.max_megapixels 100"
