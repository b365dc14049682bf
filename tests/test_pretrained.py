"""The weights that come along: what they say of themselves, and what they make of drawn fruit."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cyclegan_ms.config import load_config
from cyclegan_ms.files import find_shipped
from cyclegan_ms.training.start import read_start
from cyclegan_ms.translate import Translator

pytestmark = pytest.mark.usefixtures("pynative")

FOLDER = find_shipped("pretrained") / "apple2orange"
EPOCH = 21
COLORS = {
    "apple2orange": [
        [115.8, 109.3, 85.1], [110.9, 110.8, 88.8], [117.0, 98.9, 79.6], [118.1, 105.4, 80.2]
    ],
    "orange2apple": [
        [162.1, 114.3, 100.6], [137.4, 119.2, 102.3], [145.5, 105.1, 85.8], [117.8, 115.2, 94.0]
    ],
}  # fmt: skip
"""Mean red, green and blue of the four quarters of what they make of the first drawn test image,
written down when they were shipped: `python tests/test_pretrained.py` prints them."""


def quarters(direction):
    split = "testA" if direction == "apple2orange" else "testB"
    with Image.open(find_shipped("sample") / split / "000.jpg") as picture:
        made = np.asarray(Translator("apple2orange", direction)(picture.convert("RGB")), float)
    half = len(made) // 2
    parts = [made[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return [[round(float(it), 1) for it in part.mean((0, 1))] for part in parts]


@pytest.mark.parametrize("direction", COLORS)
def test_they_make_what_they_made(direction):
    assert np.abs(np.array(quarters(direction)) - COLORS[direction]).max() < 0.5


@pytest.mark.parametrize("direction, name", [("a2b", "g_ab.ckpt"), ("b2a", "g_ba.ckpt")])
def test_what_they_say_of_themselves(direction, name):
    assert (FOLDER / name).stat().st_size <= 6_000_000
    spec = Translator("apple2orange", direction).spec
    assert (spec.direction, list(spec.domains)) == (direction, ["apple", "orange"])
    assert (spec.width, spec.blocks, spec.upsample) == (32, 9, "resize")
    assert (spec.image_size, spec.epoch, spec.ema) == (256, EPOCH, 0.999)


def test_a_training_goes_on_from_them():
    config = load_config(FOLDER / "config.yaml")
    start = read_start(replace(config, train=replace(config.train, init_from="apple2orange")))
    assert start.networks.keys() == {"g_ab", "g_ba"}
    assert start.found == [f"g_ab of epoch {EPOCH}", f"g_ba of epoch {EPOCH}"]


if __name__ == "__main__":
    from cyclegan_ms.device import setup_device

    setup_device("CPU", "pynative")
    for way in COLORS:
        print(way, quarters(way))
