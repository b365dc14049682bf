"""The demo in a browser: a picture goes in, and what was made of it comes out."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, pixel
from PIL import Image

from cyclegan_ms.demo import Demo, require_gradio, serve
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.translate import Translator
from cyclegan_ms.weights.checkpoint import save_generator


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a demo of small generators, its process, and where it keeps files."""
    folder = tmp_path_factory.mktemp("run")
    for direction, name in (("a2b", "g_ab.ckpt"), ("b2a", "g_ba.ckpt")):
        spec = GeneratorSpec(direction, ("day", "night"), width=4, blocks=1, image_size=32)
        save_generator(spec.build(), spec, folder / name)
    place = tmp_path_factory.mktemp("tmp")
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "demo.py", "--checkpoint", folder, "--port", "7871"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )  # fmt: skip
    line = process.stdout.readline()
    address = re.fullmatch(r"open (http://127\.0\.0\.1:78\d\d) \(Ctrl-C ends it\)\n", line)
    assert address, line + process.stderr.read()
    yield address[1], place, folder
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert process.stderr.read().endswith("interrupted\n")
    assert not [path for path in place.iterdir() if path.name.startswith("tmp")]


def test_pictures_go_in_and_come_out(served, browser, tmp_path):
    address, _, folder = served
    Image.new("RGB", (160, 120), "red").save(tmp_path / "wide.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        page = context.new_page()
        elsewhere, errors = [], []
        page.on("pageerror", lambda error: errors.append(error))
        page.on("request", lambda it: elsewhere.append(it.url))
        page.goto(address)
        said = page.get_by_label("messages")
        page.get_by_role("button", name="Translate").click()
        page.wait_for_function("document.body.innerText.includes('working size')")
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(it => it.value.includes('drop a pic'))"
        )
        page.evaluate(
            "seen = []; setInterval(() => seen.push(...[...document.querySelectorAll('textarea')]"
            ".map(it => it.value)), 10)"
        )
        files = [str(tmp_path / name) for name in ("wide.png", "broken.jpg")]
        page.locator("input[type=file]").first.set_input_files(files)
        page.get_by_text("broken").first.wait_for()
        page.get_by_label("night2day").check()
        page.get_by_role("button", name="Translate").click()
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(it => it.value.includes('1 transl'))"
        )
        words = said.input_value()
        seen = page.evaluate("seen.filter((it, i) => it != seen[i - 1])")
        assert re.match("drop a picture", seen[0]) and seen[1:] == ["", words]
        assert words.startswith("failed: broken.jpg: ")
        soft = "so it is soft: working size 64 is sharper, if less like its training at 32"
        assert f"enlarged 4 times, {soft}\n1 translated in " in words
        with page.expect_download() as download:
            page.locator("a[download]").last.click()
        download.value.save_as(tmp_path / "result.png")
        expected = Translator(folder, "night2day", 32)(Image.open(tmp_path / "wide.png"))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "result.png")), expected)
        line = page.locator(".slider-wrap, [data-testid=image-slider], .image-container").first
        line.scroll_into_view_if_needed()
        assert pixel(line, 0.3, 0.5)[0] > 200  # the original, red
        page.set_viewport_size({"width": 360, "height": 800})
        page.wait_for_function("document.documentElement.scrollWidth == 360")
    outside = [it for it in elsewhere if not it.startswith((address, "data:", "blob:"))]
    assert not errors and not outside


def test_without_gradio(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match="the demo needs Gradio: pip install gradio 'numpy<2'"):
        require_gradio(tmp_path)


def test_a_visitor_stops_within_a_large_picture(served, tmp_path):
    """Another visitor's leaving stops nothing."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "large.png")
    folder = served[2]
    demo = Demo(lambda way, _: Translator(folder, way, tile=32), ["day2night"], 32, tmp_path)
    large = ([str(tmp_path / "large.png")], "day2night", "64 pixels")
    pairs, written, said = demo.translate(*large, lambda *_: demo.stop("theirs"), "mine")
    assert len(pairs) == len(written) == 1 and said.startswith("1 translated in ")
    pairs, written, said = demo.translate(*large, lambda *_: demo.stop("mine"), "mine")
    assert not pairs and not written
    assert said.startswith("stopped: 1 left\n0 translated in ")


@pytest.mark.parametrize("host", ["300.1.1.1", "192.0.2.1"])  # none, and one of nobody (RFC 5737)
def test_a_host_that_is_not_here(host, tmp_path):
    demo = Demo(None, ["a2b"], 64, tmp_path)
    with pytest.raises(UserError, match=f"--host {host}: no address of this machine"):
        serve(demo, "a title", host)


def test_nothing_to_translate(tmp_path):
    with pytest.raises(UserError, match="drop a picture first"):
        Demo(None, ["a2b"], 64, tmp_path).translate([], "a2b", "128 pixels")
