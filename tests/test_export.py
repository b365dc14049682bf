"""MindIR and ONNX: checked, for any size, and usable as checkpoints."""

import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import GENERATORS, generator

from mindspore.train.mind_ir_pb2 import ModelProto

from cyclegan_ms import cli
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.winograd import Winograd
from cyclegan_ms.translate import Translator
from cyclegan_ms.weights.checkpoint import save_generator
from cyclegan_ms.weights.engines import MindSporeEngine, load_engine
from cyclegan_ms.weights.export import export_generator, largest_difference

pytestmark = pytest.mark.usefixtures("pynative")


def spec_of(name):
    words = {"direction": "b2a", "domains": ("apple", "orange"), "image_size": 32, "epoch": 7}
    return replace(GENERATORS[name], **words)


@pytest.mark.parametrize("name", GENERATORS)
def test_onnx_equals_mindspore(name, tmp_path):
    cell, spec = generator(name), GENERATORS[name]
    assert export_generator(cell, spec, tmp_path / "g.onnx", "onnx") < 5e-5


@pytest.fixture(scope="module", params=["paper-3to1", "tutorial-3to1"])
def exported(request, tmp_path_factory):
    """A generator and its files of both kinds."""
    cell, spec = generator(request.param), spec_of(request.param)
    folder = tmp_path_factory.mktemp("exported")
    for kind in ("onnx", "mindir"):
        assert export_generator(cell, spec, folder / f"g.{kind}", kind) < 5e-5
    return cell, spec, folder


@pytest.mark.parametrize("kind", ["onnx", "mindir"])
def test_any_size_and_number(exported, kind, rng):
    cell, spec, folder = exported
    engine = load_engine(folder / f"g.{kind}")
    assert engine.spec == spec
    reference = MindSporeEngine(cell, spec)
    for shape in ((1, 3, 32, 32), (4, 3, 64, 48), (2, 3, 8, 100), (1, 3, 256, 256)):
        x = rng.uniform(-1, 1, shape).astype(np.float32)
        output = engine(x)
        assert output.shape == (shape[0], 1, *shape[2:])
        assert np.abs(output - reference(x)).max() < 1e-4


def test_a_size_that_comes_often_is_compiled_for_itself(exported, rng):
    engine = MindSporeEngine(*exported[:2])
    engine.OFTEN = 2
    x, other = (rng.uniform(-1, 1, (1, 3, side, 32)).astype(np.float32) for side in (32, 64))
    outputs = [engine(x) for _ in range(4)]
    assert engine(other).shape == (1, 1, 64, 32)
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[2], outputs[3])
    assert np.abs(outputs[0] - outputs[2]).max() < 1e-5


def test_images_are_counted_and_graphs_are_bounded(exported, rng):
    """Batches count as their images; of more frequent sizes than MOST the later share a graph."""
    engine = MindSporeEngine(*exported[:2])
    engine.OFTEN, engine.MOST = 5, 2
    compiled = []
    run, run_size = engine._for("small")
    engine._runs["small"] = run, lambda x: compiled.append(x.shape) or run_size(x)
    batches = [rng.uniform(-1, 1, (3, 3, 8, width)).astype(np.float32) for width in (8, 12, 16)]
    for batch in batches * 3:
        engine(batch)
    assert compiled == [(3, 3, 8, 8), (3, 3, 8, 12)] * 2  # from the sixth image on; never the third
    engine.LARGEST = engine.spec.width * 3 * 8 * 8 - 1  # too large as a whole
    engine(batches[0])
    assert len(compiled) == 4


@pytest.mark.parametrize("name", ["paper-3to1", "tutorial-1to3"])
def test_small_and_large_pictures_are_computed_otherwise_by_the_same_weights(
    name, rng, monkeypatch
):
    cell, spec = generator(name), GENERATORS[name]
    engine = MindSporeEngine(cell, spec)
    x = rng.uniform(-1, 1, (2, spec.in_channels, 40, 36)).astype(np.float32)
    small = engine(x)
    monkeypatch.setattr("cyclegan_ms.model.kernels.SMALL", 0)
    usual = engine(x)
    # Of a residual block: 4 times the width, at a quarter of the sides.
    monkeypatch.setattr(Winograd, "LARGEST", 4 * spec.width * 10 * 9 - 1)
    large = engine(x)
    assert list(engine._runs) == ["usual", "small", "large"]
    for found in (small, large):
        assert 0 < np.abs(found - usual).max() < 1e-5


@pytest.mark.parametrize("kind", ["onnx", "mindir"])
def test_weights_come_back(exported, kind):
    cell, _, folder = exported
    again = load_engine(folder / f"g.{kind}").to_mindspore()
    ours = dict(cell.parameters_and_names())
    for name, parameter in again.parameters_and_names():
        assert np.array_equal(parameter.asnumpy(), ours[name].asnumpy()), name


def test_onnx_needs_no_mindspore(exported):
    """Only onnxruntime and what the file says of itself."""
    folder = exported[2]
    session = onnxruntime.InferenceSession(str(folder / "g.onnx"))
    (image,), (translated,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 3, "height", "width"])
    assert (translated.name, translated.shape) == ("translated", ["batch", 1, "height", "width"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["direction"] == "orange2apple"
    assert "[-1, 1]" in metadata["value_range"]
    assert json.loads(metadata["cyclegan_ms"])["domains"] == ["apple", "orange"]


def test_onnx_is_made_of_the_standard_operators(exported):
    _, spec, folder = exported
    kinds = {node.op_type for node in onnx.load(folder / "g.onnx").graph.node}
    if spec.variant == "paper":
        assert kinds == {
            "Pad", "Conv", "InstanceNormalization", "Relu", "Add", "ConvTranspose", "Tanh",
        }  # fmt: skip
    else:
        assert kinds == {
            "Conv", "BatchNormalization", "LeakyRelu", "Relu", "Add", "ConvTranspose", "Tanh",
        }  # fmt: skip


def test_mindir_is_made_of_the_plain_operators(exported):
    """Whatever the machine that exported it: none of the forms that are there for CPU alone."""
    _, spec, folder = exported
    model = ModelProto()
    model.ParseFromString((folder / "g.mindir").read_bytes())
    nodes = [node.op_type for graph in (model.graph, *model.functions) for node in graph.node]
    kinds = Counter(kind.split(":")[2] for kind in nodes if kind.startswith("REF::"))
    assert kinds["Conv2D"] == 4 + 2 * spec.blocks and kinds["Conv2DTranspose"] == 2
    norms = {"GroupNorm": 5 + 2 * spec.blocks, "BatchNorm": 0}
    if spec.variant == "tutorial":
        norms = {"GroupNorm": 0, "BatchNorm": 5 + 2 * spec.blocks}
    assert {kind: kinds[kind] for kind in norms} == norms
    assert not {"MatMul", "BatchMatMul", "Transpose", "Reshape"} & set(kinds)


@pytest.mark.parametrize("kind", ["onnx", "mindir"])
def test_exported_files_translate_with_all_options(exported, kind, rng):
    cell, spec, folder = exported
    image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    expected = Translator(MindSporeEngine(cell, spec))(image).astype(int)
    for options in ({}, {"tile": 32}):
        translator = Translator(folder / f"g.{kind}", "orange2apple", **options)
        assert np.abs(translator(image).astype(int) - expected).max() <= 1
    with pytest.raises(UserError, match="can be b2a, orange2apple"):
        Translator(folder / f"g.{kind}", "a2b")


def test_a_difference_is_seen(exported):
    _, spec, folder = exported
    other = generator(f"{spec.variant}-3to1")
    weight = [p for p in other.trainable_params() if p.name.endswith("weight")][-1]
    weight.set_data(weight * 1.01)
    assert largest_difference(other, load_engine(folder / "g.onnx")) > 1e-4


def test_files_that_are_none_of_ours(tmp_path):
    for kind, words in (("onnx", "not an ONNX model"), ("mindir", "not a MindIR file")):
        path = tmp_path / f"bad.{kind}"
        path.write_bytes(b"\xff no model at all")
        with pytest.raises(UserError, match=words):
            load_engine(path)
    identity = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "foreign",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(
        onnx.helper.make_model(identity, opset_imports=opsets, ir_version=9), tmp_path / "f.onnx"
    )
    with pytest.raises(UserError, match="not a generator exported by cyclegan_ms"):
        load_engine(tmp_path / "f.onnx")


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install onnx onnxruntime 'numpy<2'"):
        export_generator(
            generator("paper-3to1"), spec_of("paper-3to1"), tmp_path / "g.onnx", "onnx"
        )


def test_command(tmp_path, capsys):
    save_generator(generator("paper-3to1"), spec_of("paper-3to1"), tmp_path / "g.ckpt")

    def run(direction, kind, name, *more):
        return cli.export(
            [f"--checkpoint={tmp_path / 'g.ckpt'}", f"--direction={direction}", f"--format={kind}",
             f"--output={tmp_path / name}", *more]
        )  # fmt: skip

    assert run("b2a", "onnx", "g.onnx") == 0
    assert "exported orange2apple to" in capsys.readouterr().out
    assert run("b2a", "onnx", "g.onnx") == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert run("b2a", "onnx", "g.onnx", "--overwrite") == 0
    assert run("b2a", "mindir", "wrong.onnx") == 2
    assert "must end in .mindir" in capsys.readouterr().err
    assert run("a2b", "mindir", "g.mindir") == 2
    assert "does not translate a2b" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.ckpt", "g.onnx"]


@pytest.mark.parametrize("place", ["my runs", "a+b=c", "苹果"])
def test_mindir_to_any_path(place, tmp_path, monkeypatch):
    """MindSpore's exporter refuses such paths, that of a temporary folder too."""
    (tmp_path / place).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    path = tmp_path / place / "g.mindir"
    export_generator(generator("paper-3to3"), spec_of("paper-3to3"), path, "mindir")
    assert load_engine(path).spec == spec_of("paper-3to3")
    assert [file.name for file in (tmp_path / place).iterdir()] == ["g.mindir"]
