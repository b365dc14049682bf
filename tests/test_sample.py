"""The drawn sample is what its script draws."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("number,split,kind", [(0, "trainA", "apple"), (3, "testB", "orange")])
def test_the_script_draws_the_shipped_files(number, split, kind):
    draw_scene = runpy.run_path(str(DATA / "draw_sample.py"))["draw_scene"]
    for index in (0, 5):
        drawn = np.asarray(draw_scene(kind, np.random.default_rng([number, index])), float)
        shipped = np.asarray(Image.open(DATA / "sample" / split / f"{index:03d}.jpg"), float)
        assert drawn.shape == shipped.shape == (128, 128, 3)
        assert np.abs(drawn - shipped).mean() < 4  # JPEG at quality 90
