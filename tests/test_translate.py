"""A generator on images of any size, files and folders."""

import numpy as np
import pytest
from PIL import Image

import mindspore as ms
from mindspore import nn

from cyclegan_ms.checkpoint import GeneratorSpec, load_generator, read_generator, save_generator
from cyclegan_ms.config import UserError
from cyclegan_ms.translate import Translator, plan_outputs, translate_files

SPEC = GeneratorSpec("a2b", ("apple", "orange"), width=4, blocks=1, image_size=32, epoch=7)


@pytest.fixture
def run(tmp_path):
    """A run folder with both generators."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name, direction in (("g_ab", "a2b"), ("g_ba", "b2a")):
        spec = GeneratorSpec(direction, ("apple", "orange"), width=4, blocks=1, image_size=32)
        save_generator(spec.build(), spec, folder / f"{name}.ckpt")
    return folder


def test_a_file_describes_itself(tmp_path, images):
    generator = SPEC.build()
    save_generator(generator, SPEC, tmp_path / "g.ckpt")
    loaded, spec = load_generator(tmp_path / "g.ckpt")
    assert spec == SPEC
    assert spec.name == "apple2orange"
    x = ms.Tensor(images())
    assert np.array_equal(loaded(x).asnumpy(), generator(x).asnumpy())
    assert [p.name for p in tmp_path.iterdir()] == ["g.ckpt"]


def test_files_that_are_no_generators(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_generator(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(UserError, match=r"text.ckpt: not a MindSpore checkpoint, or damaged"):
        read_generator(tmp_path / "text.ckpt")
    ms.save_checkpoint(SPEC.build(), str(tmp_path / "plain.ckpt"))
    with pytest.raises(UserError, match="not a generator saved by cyclegan_ms"):
        read_generator(tmp_path / "plain.ckpt")


def test_directions(run):
    for direction in ("a2b", "apple2orange"):
        assert Translator.load(run, direction).spec.direction == "a2b"
    for direction in ("b2a", "orange2apple"):
        assert Translator.load(run, direction).spec.direction == "b2a"
    with pytest.raises(UserError, match="can be a2b, apple2orange, b2a, orange2apple"):
        Translator.load(run, "cat2dog")
    with pytest.raises(UserError, match="can be b2a, orange2apple"):
        Translator.load(run / "g_ba.ckpt", "a2b")
    with pytest.raises(UserError, match=r"it has no g_ab.ckpt"):
        Translator.load(run.parent, "a2b")


class Negative(nn.Cell):
    """Stands in for a generator: the negative of an image."""

    def construct(self, x):
        if x.shape[2] % 4 or x.shape[3] % 4 or min(x.shape[2:]) < 8:
            raise ValueError("sizes must be multiples of 4")
        return -x


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (32, 32), (33, 47), (5, 200)])
def test_any_size_in_the_same_size_out(size, rng):
    translator = Translator(Negative(), SPEC)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    result = translator(Image.fromarray(pixels))
    assert np.array_equal(np.asarray(result), 255 - pixels)


def test_names_are_kept(tmp_path):
    source = tmp_path / "in"
    for name in ("a.jpg", "b.PNG", "sub/c.webp", "d.gif", "d.png"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), "red").save(path)
    pairs = plan_outputs(source, tmp_path / "out")
    result = translate_files(Translator(Negative(), SPEC), pairs)
    written = {str(p.relative_to(tmp_path / "out")) for p in result.written}
    assert written == {"a.jpg", "b.PNG", "sub/c.webp", "d.png", "d_gif.png"}
    assert not result.failed
    assert dict(pairs)[source / "d.png"] == tmp_path / "out" / "d.png"
    for path in result.written:
        image = Image.open(path)
        assert image.size == (9, 7)
        # The negative of red is cyan; WebP and JPEG are lossy.
        assert np.abs(np.asarray(image.convert("RGB"), int) - [0, 255, 255]).max() < 12


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    Image.new("RGB", (8, 8)).save(source / "good.png")
    (source / "bad.png").write_bytes(b"no picture")
    result = translate_files(Translator(Negative(), SPEC), plan_outputs(source, tmp_path / "out"))
    assert [p.name for p in result.written] == ["good.png"]
    assert [p.name for p, _ in result.failed] == ["bad.png"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def test_bad_places(tmp_path):
    source = tmp_path / "in"
    with pytest.raises(UserError, match="no such file or folder"):
        plan_outputs(source, tmp_path / "out")
    source.mkdir()
    with pytest.raises(UserError, match="holds no image"):
        plan_outputs(source, tmp_path / "out")
    Image.new("RGB", (8, 8)).save(source / "x.png")
    for inside in (source, source / "out"):
        with pytest.raises(UserError, match="is --input or lies in it"):
            plan_outputs(source, inside)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        plan_outputs(source, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output"):
        plan_outputs(source, tmp_path / "file" / "below")
