"""Pages in a browser: what is clicked, dragged and typed, narrow and wide, light and dark."""

import numpy as np
import pytest
from helpers import pixel

from cyclegan_ms.config import Config, save_config
from cyclegan_ms.model.losses import PANELS, Term
from cyclegan_ms.training.page import Status, write_page
from cyclegan_ms.training.plots import cycle_grid

SIDE = 40
COLORS = {  # of epoch: real, translated, back; in [-1, 1]
    1: ((1, -1, -1), (1, 1, -1), (-1, -1, -1)),
    2: ((1, -1, -1), (-1, 1, -1), (-1, -1, 1)),
}
RED, YELLOW, GREEN, BLUE = (255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training that is half done: a plain colour for each kind of picture."""
    folder = tmp_path_factory.mktemp("runs") / "fruit"
    (folder / "samples").mkdir(parents=True)
    save_config(Config(), folder / "config.yaml")
    for epoch, colors in COLORS.items():
        images = [np.full((2, 3, SIDE, SIDE), 0.0) + np.reshape(it, (3, 1, 1)) for it in colors]
        grid = cycle_grid([images, images], ("apple", "orange"))
        grid.save(folder / "samples" / f"epoch_{epoch:04d}.png")
    terms = [Term("g_ab", "g", "adversarial", "generator A to B"),
             Term("cycle_a", "cycle", "cycle", "cycle A")]  # fmt: skip
    rows = [
        {"epoch": 1 + step // 500, "step": step, "g_ab": 1 / step, "cycle_a": 3 - step / 1000,
         "learning_rate": 2e-4, "step_s": 0.5}
        for step in range(1, 1000)
    ]  # fmt: skip
    status = Status(4, 2000, 3725.0, ("apple", "orange"), (2, 2), SIDE)
    write_page(folder, rows, terms, status, {"device": "CPU", "mindspore": "2.8.0"})
    return folder


@pytest.fixture
def page(run, browser):
    """Its page, opened from disk."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(error))  # a builtin will not do
        page.goto((run / "index.html").as_uri())
        yield page
        assert not errors


def test_the_line_between_original_and_translation_follows_the_pointer(page):
    tile = page.locator(".tile").first
    assert (pixel(tile, 0.3, 0.5), pixel(tile, 0.7, 0.5)) == (RED, GREEN)
    box = tile.bounding_box()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 9)
    assert (pixel(tile, 0.7, 0.5), pixel(tile, 0.97, 0.5)) == (RED, GREEN)
    tile.locator("input").fill("10")  # as the keyboard does
    assert pixel(tile, 0.3, 0.5) == GREEN


def test_the_keys_and_the_slider_go_through_the_epochs(page):
    tile, which = page.locator(".tile").first, page.locator("#which")
    assert which.inner_text() == "epoch 2"
    page.keyboard.press("ArrowLeft")
    assert which.inner_text() == "epoch 1" and page.url.endswith("#1")
    assert pixel(tile, 0.7, 0.5) == YELLOW
    page.keyboard.press("ArrowLeft")  # there is none before
    assert which.inner_text() == "epoch 1"
    page.reload()
    assert which.inner_text() == "epoch 1"  # as it was left
    page.locator("#later").click()
    assert which.inner_text() == "epoch 2" and "#" not in page.url
    page.locator("#epoch").fill("0")
    assert pixel(tile, 0.7, 0.5) == YELLOW


def test_there_and_back(page):
    tile = page.locator(".tile").last
    page.locator("#back").click()
    assert pixel(tile, 0.7, 0.5) == BLUE
    page.locator("#fake").click()
    assert pixel(tile, 0.7, 0.5) == GREEN


def test_what_it_says(page):
    chips = dict(text.split("\n") for text in page.locator(".chips li").all_inner_texts())
    assert chips == {
        "epoch": "2 of 4", "step": "999 of 2,000", "time in steps so far": "1:02:05",
        "time left": "08:20", "a step": "0.50 s", "rate": "0.0002", "device": "CPU",
    }  # fmt: skip
    panels = page.locator(".panel")
    assert panels.count() == 2 and panels.locator("svg").count() == 2
    assert panels.locator("h3").all_inner_texts() == ["adversarial", "cycle"]
    text = panels.last.inner_text()
    assert "cycle A, cycle_a: 2.00" in text and PANELS["cycle"] in text
    chip = page.locator(".legend b").first.evaluate("it => getComputedStyle(it).backgroundColor")
    assert chip == "rgb(31, 119, 180)"
    assert page.locator("pre").is_hidden()
    page.get_by_text("Settings").click()
    assert "crop_size: 256" in page.locator("pre").inner_text()


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_width_and_colour_scheme(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing runs over
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[scheme]
