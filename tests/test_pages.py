"""Pages in a browser: what is clicked, dragged and typed, narrow and wide, light and dark."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import Negative, pixel
from PIL import Image

from cyclegan_ms.config import Config, save_config
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.losses import PANELS, Term
from cyclegan_ms.page import add_link, page_of_run, render
from cyclegan_ms.training.page import Status, write_page
from cyclegan_ms.training.plots import cycle_grid
from cyclegan_ms.translate import Translator
from cyclegan_ms.translate.folder import translate_files
from cyclegan_ms.translate.page import Album
from cyclegan_ms.translate.plan import Options, plan

pytestmark = pytest.mark.usefixtures("pynative")

SIDE = 40
COLORS = {  # of epoch: real, translated, back; in [-1, 1]
    1: ((1, -1, -1), (1, 1, -1), (-1, -1, -1)),
    2: ((1, -1, -1), (-1, 1, -1), (-1, -1, 1)),
}
TERMS = [Term("g_ab", "g", "adversarial", "generator A to B"),
         Term("cycle_a", "cycle", "cycle", "cycle A")]  # fmt: skip
RUNNING = Status(
    1003, 2, 4, 2000, 3725.0, 498.5, domains=("apple", "orange"), shown=(2, 2), side=SIDE,
    per_epoch=1019, state_minutes=7.5,
)  # fmt: skip
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
    rows = [
        {"epoch": 1 + step // 500, "step": step, "g_ab": 1 / step, "cycle_a": 3 - step / 1000,
         "learning_rate": 2e-4, "step_s": 0.5}
        for step in range(1, 1000)
    ]  # fmt: skip
    write_page(folder, rows, TERMS, RUNNING, {"device": "CPU", "mindspore": "2.8.0"})
    return folder


@pytest.fixture
def opened(browser):
    """opened(path): a page from disk, in which no script may fail."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(error))  # a builtin will not do

        def go(path):
            page.goto(path.as_uri())
            return page

        yield go
        assert not errors


@pytest.fixture
def page(run, opened):
    return opened(run / "index.html")


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
    heading = page.locator("#tiles h3").first
    there = heading.inner_text()
    page.locator("#back").click()
    assert pixel(tile, 0.7, 0.5) == BLUE
    source, target = there.split(" to ")
    assert heading.inner_text() == f"{source} to {target} to {source}"
    page.locator("#fake").click()
    assert pixel(tile, 0.7, 0.5) == GREEN


def test_what_it_says(page):
    chips = dict(text.split("\n") for text in page.locator(".chips li").all_inner_texts())
    assert chips == {
        "epoch": "2 of 4", "step": "1,003 of 2,000", "time training": "1 h 02 min",
        "time left": "8 min", "a step, lately": "0.50 s", "learning rate": "0.0002",
        "device": "CPU",
    }  # fmt: skip
    panels = page.locator(".panel")
    assert panels.count() == 2 and panels.locator("svg").count() == 2
    assert panels.locator("h3").all_inner_texts() == ["adversarial", "cycle"]
    text = panels.last.inner_text()
    assert "cycle apple, cycle_a: 2.00" in text and PANELS["cycle"] in text
    chip = page.locator(".legend b").first.evaluate("it => getComputedStyle(it).backgroundColor")
    assert chip == "rgb(31, 119, 180)"
    assert page.locator("pre").is_hidden()
    page.get_by_text("Settings").click()
    assert "crop_size: 256" in page.locator("pre").inner_text()


def test_a_click_on_a_picture_does_not_keep_the_keys(page):
    page.locator(".tile").first.click()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#which").inner_text() == "epoch 1"


@pytest.mark.parametrize(
    "changes,words,renewed",
    [
        ({}, "Training; this page renews itself. Written ", True),
        ({"patience": 1e-3}, "No news for long: it may have been stopped. Written ", True),
        ({"patience": 1e-3}, "To go on:\ntrain.py --resume", True),
        ({"stopped": True}, "Stopped. To go on:\ntrain.py --resume", False),
        ({"step": 2000}, "Finished.", False),
    ],
)
def test_what_it_says_of_the_training(changes, words, renewed, run, tmp_path, opened):
    save_config(Config(), tmp_path / "config.yaml")
    status = replace(RUNNING, way_on="train.py --resume", **changes)
    write_page(tmp_path, [], TERMS, status, {})
    page = opened(tmp_path / "index.html")
    page.reload()  # a moment after it was written
    said = page.locator("p").first.inner_text()
    assert words in said and ("To go on" in said) == bool(changes.keys() & {"patience", "stopped"})
    assert page.evaluate("running") == renewed
    text = page.locator("main").inner_text()
    assert "Curves and pictures come with the first epoch, after 1,019 steps, or after 7" in text
    assert ("The first step compiles, up to a minute. Curves" in text) == renewed
    assert not page.locator(".panel").count() and page.locator(".links").is_hidden()


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_width_and_colour_scheme(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing runs over
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[scheme]


# --------------------------------------------------------------------- translated pictures


def translated(source, output, **options):
    """Translate into negatives, with a page."""
    options = Options(page=True, **options)
    jobs, album = plan(source, output, options), Album(output)
    translator = Translator(Negative())
    result = translate_files(translator, jobs, options, album=album)
    failed = {path.name: reason for path, reason in result.failed}
    facts = [("translated", 7)]
    run_page = page_of_run(output)
    return album.write("Negatives", [job.target for job in jobs], failed, facts, run_page)


@pytest.fixture
def pictures(tmp_path):
    """A wide red one, a transparent one, one of 16 bits, one in a folder, and a broken one."""
    folder = tmp_path / "in"
    (folder / "sub & co").mkdir(parents=True)
    Image.new("RGB", (1200, 600), "red").save(folder / "wide.jpg")
    Image.new("RGBA", (60, 60), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.fromarray(np.full((40, 40), 65535, np.uint16)).save(folder / "deep.tif")
    Image.new("RGB", (40, 40), "blue").save(folder / "sub & co" / "a#b<i>.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_page_of_translations(pictures, tmp_path, opened):
    page = opened(translated(pictures, tmp_path / "out"))
    cards = page.locator("figure")
    texts = [text.split("\n")[0] for text in page.locator("figcaption").all_inner_texts()]
    assert texts == ["clear.png 60 x 60", "deep.tif 40 x 40", "sub & co/a#b<i>.png 40 x 40",
                     "wide.jpg 1200 x 600"]  # fmt: skip
    assert "broken.png: " in page.locator(".failed").inner_text()
    page.wait_for_function("[...document.images].every(it => it.complete && it.naturalWidth)")
    box = cards.last.locator(".compare")
    near = lambda color, other: np.abs(np.subtract(color, other)).max() < 12  # noqa: E731 - JPEG
    assert near(pixel(box, 0.3, 0.5), RED) and near(pixel(box, 0.7, 0.5), (0, 255, 255))
    box.locator("input").fill("90")
    assert near(pixel(box, 0.7, 0.5), RED)
    named = cards.nth(2).locator(".compare")
    assert near(pixel(named, 0.3, 0.5), BLUE) and near(pixel(named, 0.7, 0.5), YELLOW)
    assert near(pixel(cards.first.locator(".compare"), 0.3, 0.5), (255, 255, 255))  # on white
    page.locator("#filter").fill("WIDE")
    assert cards.count() == 1 and page.locator("#count").inner_text() == "1 of 4 pictures"
    page.locator("figure a").click()
    assert page.url.endswith("/out/wide.jpg")


def test_results_beside_their_originals(tmp_path, opened):
    """Whole and without a gap, and nothing is said of a line that there is not."""
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    index = translated(tmp_path / "a.png", tmp_path / "out", side_by_side=True)
    page = opened(index)
    page.wait_for_function("[...document.images].every(it => it.complete && it.naturalWidth)")
    box = page.locator(".whole").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(120 / 40, rel=0.02)
    assert "left of the line" not in page.locator("main").inner_text()


def test_a_second_folder_joins_the_first(pictures, tmp_path, opened):
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (40, 40), "lime").save(other / "lime.png")
    translated(other, tmp_path / "out")
    page = opened(translated(pictures, tmp_path / "out"))
    texts = [text.split(" ")[0] for text in page.locator("figcaption").all_inner_texts()]
    assert texts == ["clear.png", "deep.tif", "sub", "wide.jpg", "lime.png"]


def test_a_name_that_is_no_text(tmp_path):
    """Latin-1, from an old disk."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")
    (folder / "a.png").rename(folder / os.fsdecode(b"x\xe9.png"))
    page = translated(folder, tmp_path / "out").read_text(encoding="utf-8")
    assert "x%E9.png" in page and r"x\\xe9.png" in page


def test_a_page_that_is_not_ours_to_write_gets_no_link(tmp_path, caplog, monkeypatch):
    page = tmp_path / "index.html"
    page.write_text(
        render("translations.html", title="", cards=[], failed={}, facts=[], first=1, run=None)
    )
    before = page.read_text()

    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    page.write_text(before + "<!-- links -->")
    add_link(page, tmp_path / "report.html", "evaluation")
    assert page.read_text() == before + "<!-- links -->"
    assert "gets no link to it: Permission denied" in caplog.text


def test_pictures_of_before_stay_on_the_page(pictures, tmp_path, opened):
    (pictures / "broken.png").unlink()
    red, lime = (Image.new("RGB", (40, 40), color) for color in ("red", "lime"))
    red.save(pictures / "moving.gif", save_all=True, append_images=[lime])
    translated(pictures, tmp_path / "out")
    Image.new("RGB", (40, 40), "lime").save(pictures / "new.png")
    page = opened(translated(pictures, tmp_path / "out", skip_existing=True))
    assert page.locator("figure .compare").count() == 6  # each with its original
    texts = page.locator("figcaption").all_inner_texts()
    assert "wide.jpg 1200 x 600" in texts  # and what was known of it
    assert [text for text in texts if re.match(r"moving\.png 40 x 40\n.*frame", text)]
    other = tmp_path / "theirs"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(UserError, match=r"index\.html exists already, and is no page"):
        plan(pictures, other, Options(page=True))
    assert (other / "index.html").read_text() == "mine"


def test_ten_thousand_pictures(tmp_path, opened):
    """Only those that are looked at are drawn."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "0.png")
    for number in range(1, 10_000):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    targets = [tmp_path / f"{number}.png" for number in range(10_000)]
    page = opened(Album(tmp_path).write("Many", targets, {}, []))
    assert page.locator("#count").inner_text() == "10000 pictures"
    assert page.locator("figure").count() < 200
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelectorAll('figure').length > 100")
    page.locator("#filter").fill("9999")
    assert page.locator("figure").count() == 1


def test_a_run_leads_to_what_was_made_with_it(run, pictures, tmp_path, opened):
    index = translated(pictures, tmp_path / "made & done")
    for _ in range(2):  # once is enough
        add_link(run / "index.html", index, "made & done")
    page = opened(run / "index.html")
    page.get_by_role("link", name="made & done").click()
    assert page.title() == "Negatives"
    assert page_of_run(run / "best" / "g_ab.ckpt") == run / "index.html"
    assert page_of_run(tmp_path / "made & done") is None
