"""Weights across frameworks: PyTorch files of every age, the tutorial's checkpoints, bad files."""

import argparse
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers import GENERATORS, generator, script
from pytorch_reference import Discriminator, Generator

import mindspore as ms

from cyclegan_ms.cli import convert_weights
from cyclegan_ms.errors import UserError
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.model.tutorial import TutorialDiscriminator, TutorialGenerator
from cyclegan_ms.translate import Translator
from cyclegan_ms.weights.checkpoint import load_generator, save_generator
from cyclegan_ms.weights.convert import export_pytorch, import_generator, names_in
from cyclegan_ms.weights.engines import load_engine
from cyclegan_ms.weights.export import _write_onnx
from cyclegan_ms.weights.torch_files import read_state_dict

pytestmark = pytest.mark.usefixtures("pynative")

ROOT = Path(__file__).parents[1]
SMALL_TUTORIAL = Path(__file__).parent / "reference" / "tutorial_g_a_small.ckpt"


@pytest.fixture
def reference():
    torch.manual_seed(0)
    return Generator(w=4, blocks=6)


def assert_same_function(imported, reference, images):
    x = images(2, 3, 32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(x)).numpy()
    assert np.abs(imported.generator(ms.Tensor(x)).asnumpy() - expected).max() < 1e-5


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_pytorch_files(reference, zipped, tmp_path, images):
    path = tmp_path / "horse2zebra.pth"
    torch.save(reference.state_dict(), path, _use_new_zipfile_serialization=zipped)
    for name, value in read_state_dict(path).items():
        assert np.array_equal(value, reference.state_dict()[name].numpy())
    imported = import_generator(path)
    assert imported.found == "PyTorch ResNet generator, 6 blocks, width 4"
    assert (imported.spec.direction, imported.spec.domains) == ("a2b", ("horse", "zebra"))
    assert imported.spec.blocks == 6
    assert_same_function(imported, reference, images)


def test_older_files_with_running_statistics_from_several_gpus(reference, tmp_path, images):
    state = OrderedDict()
    for name, value in reference.state_dict().items():
        state[f"module.{name}"] = value
    state["module.model.2.running_mean"] = torch.ones(4)
    state["module.model.2.running_var"] = torch.ones(4)
    state["module.model.2.num_batches_tracked"] = torch.tensor(7)
    torch.save(state, tmp_path / "latest_net_G_B.pth")
    imported = import_generator(tmp_path / "latest_net_G_B.pth")
    assert "saved from several GPUs, unused running statistics left out" in imported.found
    assert imported.spec.direction == "b2a"
    assert_same_function(imported, reference, images)


def test_views_half_precision_and_safetensors(tmp_path, reference, images):
    state = {"a": torch.arange(12.0).reshape(3, 4).t(), "b": torch.arange(5).half()[1:4]}
    torch.save(state, tmp_path / "views.pth")
    read = read_state_dict(tmp_path / "views.pth")
    assert read["a"].tolist() == state["a"].tolist()
    assert read["b"].tolist() == [1, 2, 3]

    from safetensors.torch import save_file

    save_file(reference.state_dict(), tmp_path / "g.safetensors")
    assert_same_function(import_generator(tmp_path / "g.safetensors", "a2b"), reference, images)
    half = {name: value.bfloat16() for name, value in reference.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    torch.save(half, tmp_path / "half.pth")
    for name in ("half.safetensors", "half.pth"):
        for key, value in read_state_dict(tmp_path / name).items():
            assert value.dtype == np.float32
            assert np.array_equal(value, half[key].float().numpy())


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_round_trip_is_exact(ending, tmp_path):
    spec = GeneratorSpec("b2a", ("cat", "wild dog"), width=4, blocks=6)
    generator = spec.build()
    save_generator(generator, spec, tmp_path / "g.ckpt")
    export_pytorch(tmp_path / "g.ckpt", tmp_path / f"g.{ending}")
    if ending == "pth":
        state = torch.load(tmp_path / "g.pth", weights_only=True)
        Generator(w=4, blocks=6).load_state_dict(state, strict=True)
    known = None if ending == "safetensors" else "b2a"
    imported = import_generator(tmp_path / f"g.{ending}", known)
    if ending == "safetensors":
        assert (imported.spec.direction, imported.spec.domains) == ("b2a", ("cat", "wild dog"))
    with pytest.raises(UserError, match="nothing is overwritten"):
        export_pytorch(tmp_path / "g.ckpt", tmp_path / f"g.{ending}")
    back = imported.generator
    for (name, before), (_, after) in zip(
        generator.parameters_and_names(), back.parameters_and_names()
    ):
        assert np.array_equal(before.asnumpy(), after.asnumpy()), name


def test_an_ending_in_capitals(tmp_path):
    """To which MindSpore appends its own."""
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    save_generator(spec.build(), spec, tmp_path / "G.CKPT")
    assert [path.name for path in tmp_path.iterdir()] == ["G.CKPT"]
    assert load_generator(tmp_path / "G.CKPT")[1] == spec


def test_a_note_of_version_0_2_is_read(tmp_path):
    """It had a space between the domains."""
    tiny = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1).build()
    values = {name: p.asnumpy() for name, p in tiny.parameters_and_names()}
    safetensors.numpy.save_file(
        values, tmp_path / "g.safetensors", {"direction": "a2b", "domains": "cat dog"}
    )
    assert import_generator(tmp_path / "g.safetensors").spec.domains == ("cat", "dog")
    with pytest.raises(UserError, match="domains are not two different names"):
        import_generator(tmp_path / "g.safetensors", domains=("horse", "horse"))


def test_no_file_makes_room_for_more_than_it_holds(tmp_path):
    """15 bytes that ask for 500 MB; a stem of width 4000, whose network would have 160 GB."""
    (tmp_path / "room.pth").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 500 << 20) + b"abcd")
    stem = {"model.1.weight": np.zeros((4000, 1, 7, 7), np.float32)}
    rest = {
        f"model.{10 + i}.conv_block.1.weight": np.zeros((1, 1, 1, 1), np.float32) for i in range(9)
    }
    last = {"model.26.weight": np.zeros((1, 1, 1, 1), np.float32)}
    safetensors.numpy.save_file(stem | rest | last, tmp_path / "wide.safetensors")
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged"):
        import_generator(tmp_path / "room.pth", "a2b")
    with pytest.raises(UserError, match="do not fit"):
        import_generator(tmp_path / "wide.safetensors", "a2b")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20e6


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_malicious_pickles_are_refused(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"evil.pth: refused, its pickle asks for posix.system"):
        import_generator("evil.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="refused"):
        import_generator("plain.pth")
    assert not Path("executed").exists()


class Layout:
    """Pickles as torch._utils._rebuild_tensor_v2 of a one-element storage with a given layout."""

    def __init__(self, shape, strides):
        self.arguments = (torch.zeros(1).storage(), 0, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("shape,strides", [((10**8,), (0,)), ((5,), (1,)), ((2,), (-1,))])
def test_layouts_outside_of_the_storage_are_refused(shape, strides, tmp_path):
    torch.save({"model.1.weight": Layout(shape, strides)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="or damaged"):
        read_state_dict(tmp_path / "x.pth")


def test_numbers_of_numpy_types_are_refused(tmp_path):
    """They could overflow; a pickle can make them only through a storage's class."""
    stream = (
        b"\x80\x02}X\x01\x00\x00\x00actorch\nLongStorage\nK\x05\x85Rs."  # {"a": LongStorage(5)}
    )
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", stream)
    with pytest.raises(UserError, match="or damaged"):
        read_state_dict(tmp_path / "x.pth")


def broken(reference, tmp_path, kind):
    path = tmp_path / f"{kind}.pth"
    if kind == "truncated":
        torch.save(reference.state_dict(), path)
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "truncated_legacy":
        torch.save(reference.state_dict(), path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "text":
        path.write_text("not weights")
    elif kind == "unet":
        torch.save({"model.model.0.weight": torch.zeros(64, 3, 4, 4)}, path)
    elif kind == "discriminator":
        torch.save(Discriminator(w=4).state_dict(), path)
    elif kind == "batchnorm":
        norm = torch.nn.BatchNorm2d(4).state_dict()
        torch.save({**reference.state_dict(), **{f"model.2.{n}": v for n, v in norm.items()}}, path)
    elif kind == "affine":
        torch.save({**reference.state_dict(), "model.2.weight": torch.full((4,), 1.5)}, path)
    elif kind == "zero padding":
        state = {
            name.replace("conv_block.1", "conv_block.0").replace("conv_block.5", "conv_block.3"): v
            for name, v in reference.state_dict().items()
        }
        torch.save(state, path)
    elif kind == "incomplete":
        state = dict(reference.state_dict())
        del state["model.4.bias"]
        torch.save(state, path)
    elif kind == "numbers":
        torch.save({"epoch": 3, "loss": 0.5}, path)
    return path


@pytest.mark.parametrize(
    "kind,words",
    [
        ("missing", "no such file"),
        ("truncated", "no file of weights (.ckpt, .pth, .pt, .safetensors), or damaged"),
        ("truncated_legacy", "no file of weights (.ckpt, .pth, .pt, .safetensors), or damaged"),
        ("text", "no file of weights (.ckpt, .pth, .pt, .safetensors), or damaged"),
        ("unet", "a U-Net generator, not a ResNet generator"),
        ("discriminator", "a PatchGAN discriminator, not a ResNet generator"),
        ("batchnorm", "with batch normalisation"),
        ("incomplete", "1 parameters are missing, such as model.4.bias"),
        ("affine", "whose instance normalisation has its own scale and shift"),
        ("zero padding", "that pads with zeros; only reflection"),
        ("numbers", "holds only epoch, loss, and no dictionary of tensors"),
    ],
)
def test_bad_files_get_a_sentence_and_nothing_is_written(kind, words, reference, tmp_path):
    source, output = broken(reference, tmp_path, kind), tmp_path / "out.ckpt"
    with pytest.raises(UserError) as error:
        import_generator(source)
    assert words in str(error.value)
    assert str(error.value).count("\n") == 0
    script = ROOT / "scripts" / "convert_weights.py"
    if kind in ("unet", "missing"):
        command = [sys.executable, str(script), f"--input={source}", f"--output={output}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not output.exists()


def in_the_wild(reference, kind):
    """A state as other programs save it, and what is said of it."""
    state, other = reference.state_dict(), Generator(w=4, blocks=6).state_dict()
    judge = Discriminator(w=4).state_dict()

    def below(prefix, values):
        return {f"{prefix}{name}": value for name, value in values.items()}

    if kind == "dropout":
        return below("", {n.replace("block.5", "block.6"): v for n, v in state.items()}), "dropout"
    if kind == "compiled":
        return below("_orig_mod.module.", state), "saved from several GPUs, saved from torch.compi"
    if kind == "compiled the other way":
        return below("module._orig_mod.", state), "saved from torch.compile"
    if kind == "affine, untrained":
        norms = {"model.2.weight": torch.ones(4), "model.2.bias": torch.zeros(4)}
        return {**state, **norms}, "scale 1 and shift 0 of its normalisation left out"
    if kind == "one of several networks":
        return {**below("G_A.", state), **below("D_A.", judge)}, "called G_A"
    if kind == "without the name model":
        return {n.removeprefix("model."): v for n, v in state.items()}, "6 blocks"
    if kind == "lightning":
        values = {**below("generator.G_A.", state), **below("discriminator.D_A.", judge)}
        return {
            "epoch": 3, "pytorch-lightning_version": "2.4", "state_dict": values,
            "hyper_parameters": argparse.Namespace(lr=2e-4, root=Path("data")),
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
            "callbacks": {"ModelCheckpoint": {"best": torch.tensor(0.5), "score": np.float64(0.5)}},
        }, "called generator.G_A"  # fmt: skip
    if kind == "nested":
        return {"model_state_dict": state, "epoch": torch.tensor(3)}, "6 blocks"
    if kind == "averaged":
        return {"params": other, "params_ema": state}, "its averaged weights"
    assert kind == "pair"
    return {"netG_A": state, "netG_B": other, "netD_A": judge}, "called netG_A"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "kind",
    ["dropout", "compiled", "compiled the other way", "affine, untrained", "averaged", "pair",
     "one of several networks", "without the name model", "lightning", "nested"],
)  # fmt: skip
def test_files_of_other_programs(kind, zipped, reference, tmp_path, images):
    state, words = in_the_wild(reference, kind)
    path = tmp_path / "weights.CKPT"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    imported = import_generator(path, "a2b")
    assert words in imported.found
    assert_same_function(imported, reference, images)


def test_two_generators_in_one_file(reference, tmp_path, images):
    other = Generator(w=4, blocks=6)
    state = {"netG_A2B": reference.state_dict(), "netG_B2A": other.state_dict(), "epoch": 3}
    torch.save(state, tmp_path / "both.pth")
    for direction, network in (("a2b", reference), ("b2a", other)):
        imported = import_generator(tmp_path / "both.pth", direction)
        assert imported.spec.direction == direction
        assert_same_function(imported, network, images)
    words = "holds the generators netG_A2B, netG_B2A; --direction a2b or b2a takes one"
    with pytest.raises(UserError, match=words):
        import_generator(tmp_path / "both.pth")
    torch.save({"first": state["netG_A2B"], "second": state["netG_B2A"]}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds the generators first, second; save one alone"):
        import_generator(tmp_path / "x.pth", "a2b")
    torch.save(
        {"netD": Discriminator(w=4).state_dict(), "opt": {"a": torch.ones(1)}}, tmp_path / "d"
    )
    with pytest.raises(UserError, match=r"below netD, opt, such as .*, not a ResNet gen"):
        import_generator(tmp_path / "d", "a2b")


@pytest.mark.quick
@pytest.mark.parametrize(
    "name,direction",
    [
        ("latest_net_G_A", "a2b"), ("latest_net_G_B", "b2a"), ("200_net_G_B", "b2a"),
        ("netG_A2B", "a2b"), ("netG_B2A", "b2a"), ("G_AB_100", "a2b"), ("G_BA_100", "b2a"),
        ("generator_b2a", "b2a"), ("Generator-A2B", "a2b"), ("G_B_20", "b2a"), ("g_b_6", "b2a"),
        ("genB2A", "b2a"), ("gen_AB", "a2b"), ("G_YtoX", "b2a"), ("G_XtoY", "a2b"),
        ("NETG_B2A_epoch12", "b2a"), ("b2a", "b2a"), ("G_B_to_A", "b2a"),
        ("latest_net_G", ""), ("generator", ""), ("banana", ""), ("F", ""), ("G_AB_G_BA", ""),
        ("netD_A", ""), ("a_b", ""),
    ],
)  # fmt: skip
def test_directions_by_the_names_of_files(name, direction):
    assert names_in(name) == (direction, ("a", "b"))


def test_a_direction_that_nothing_tells_is_asked_for(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    words = "neither its content nor its name tells the direction; give --direction a2b or b2a"
    with pytest.raises(UserError, match=words):
        import_generator(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=words):
        Translator(tmp_path / "weights.pth")
    assert Translator(tmp_path / "weights.pth", "b2a").spec.direction == "b2a"


def test_translation_and_export_take_foreign_files(reference, tmp_path, images):
    torch.save(reference.state_dict(), tmp_path / "horse2zebra.pth")
    x = images(1, 3, 32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(x)).numpy()
    for direction in (None, "a2b", "horse2zebra"):
        translator = Translator(tmp_path / "horse2zebra.pth", direction)
        assert np.abs(translator.pixels(x) - expected).max() < 1e-4
    with pytest.raises(UserError, match="does not translate b2a; --direction can be a2b, horse2z"):
        Translator(tmp_path / "horse2zebra.pth", "b2a")
    done = script("export", "--checkpoint", tmp_path / "horse2zebra.pth", "--format", "onnx",
                  "--output", tmp_path / "g.onnx")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PyTorch ResNet generator, 6 blocks, width 4" in done.stderr
    translator = Translator(tmp_path / "g.onnx")
    assert np.abs(translator.pixels(x) - expected).max() < 1e-4
    tutorial = Translator(SMALL_TUTORIAL)
    assert (tutorial.spec.variant, tutorial.spec.direction) == ("tutorial", "a2b")


def test_writing_pth_without_pytorch_says_what_to_install(tmp_path, monkeypatch):
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    save_generator(spec.build(), spec, tmp_path / "g.ckpt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="pip install torch"):
        export_pytorch(tmp_path / "g.ckpt", tmp_path / "g.pth")
    assert not (tmp_path / "g.pth").exists()


# ------------------------------------------------------------------ the tutorial's checkpoints


def test_a_checkpoint_that_the_notebook_saved(images):
    imported = import_generator(SMALL_TUTORIAL, blocks=3)
    assert imported.found == (
        "tutorial variant, one block applied 3 times, width 4, direction a2b, "
        "moving statistics never trained: its normalisation is the identity"
    )
    golden = np.load(SMALL_TUTORIAL.parent / "tutorial_golden.npz")
    for name, parameter in imported.generator.parameters_and_names():
        if parameter.requires_grad:
            after = golden[f"after2/net_rg_a.{name}"]
            assert np.array_equal(parameter.asnumpy(), after), name


def saved_by_notebook(path, generator, prefix="net_rg_b."):
    parameters = [{"name": prefix + n, "data": p} for n, p in generator.parameters_and_names()]
    ms.save_checkpoint(parameters, str(path))
    return path


def test_nine_blocks_and_trained_statistics(tmp_path, images):
    generator = TutorialGenerator(width=4, blocks=9, shared=False).set_train(False)
    for name, parameter in generator.parameters_and_names():
        if name.endswith("moving_variance"):
            parameter.set_data(ms.Tensor(np.full(parameter.shape, 4.0, np.float32)))
    path = saved_by_notebook(tmp_path / "g_b_6.ckpt", generator)
    imported = import_generator(path)
    assert "9 blocks, width 4, direction b2a, trained moving statistics" in imported.found
    x = ms.Tensor(images())
    assert np.array_equal(imported.generator(x).asnumpy(), generator(x).asnumpy())


def test_without_moving_statistics(tmp_path):
    generator = TutorialGenerator(width=4, blocks=9)
    parameters = [
        {"name": n, "data": p} for n, p in generator.parameters_and_names() if p.requires_grad
    ]
    ms.save_checkpoint(parameters, str(tmp_path / "g_a.ckpt"))
    imported = import_generator(tmp_path / "g_a.ckpt")
    assert "one block applied 9 times" in imported.found
    assert "direction not stored, no moving statistics stored" in imported.found
    assert imported.spec.direction == "a2b"


def test_other_checkpoints_are_refused(tmp_path):
    path = saved_by_notebook(tmp_path / "d_a_6.ckpt", TutorialDiscriminator(width=4), "net_d_a.")
    with pytest.raises(UserError, match="a discriminator of the tutorial's notebook"):
        import_generator(path)
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    save_generator(spec.build(), spec, tmp_path / "ours.ckpt")
    with pytest.raises(UserError, match="already a generator of cyclegan_ms"):
        import_generator(tmp_path / "ours.ckpt")
    (tmp_path / "text.ckpt").write_text("x")
    with pytest.raises(UserError, match="not a MindSpore checkpoint"):
        import_generator(tmp_path / "text.ckpt")


def test_converted_files_serve_inference(tmp_path, data_root):
    scripts = ROOT / "scripts"

    def run(name, *arguments):
        command = [sys.executable, str(scripts / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    converted = tmp_path / "apple2orange.ckpt"
    arguments = ("--input", SMALL_TUTORIAL, "--output", converted, "--blocks", 3)
    said = run("convert_weights.py", *arguments, "--domains", "apple", "orange")
    assert "tutorial variant, one block applied 3 times" in said
    _, spec = load_generator(converted)
    assert (spec.variant, spec.shared_blocks, spec.name) == ("tutorial", True, "apple2orange")
    said = run(
        "infer.py", "--checkpoint", converted, "--direction", "apple2orange",
        "--input", data_root / "testA", "--output", tmp_path / "out",
    )  # fmt: skip
    assert said.startswith("1 translated, 0 skipped, 0 failed")


# ------------------------------------------------------------------- traps in strangers' files


def zipped(path, stream, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", stream)
        for name, data in entries.items():
            archive.writestr(f"x/data/{name}", data)
    return path


NEST = b"K\x01" + b"2\x86" * 200  # (1, 1), and 200 times a pair of what was made before


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02" + NEST + b"Q.",  # a persistent id
        b"\x80\x02}" + NEST + b"K\x01s.",  # a key
        b"\x80\x02}X\x01\x00\x00\x00a" + NEST + b"s.",  # a value
        b"\x80\x02(X\x07\x00\x00\x00storage" + NEST  # a part of one
        + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        + NEST + b"K\x00))tRs.",  # the storage of a tensor
    ],
)  # fmt: skip
def test_a_nest_of_shared_tuples_does_not_hang(stream, tmp_path):
    """Doubled 200 times, comparing or printing one takes for ever."""
    began = time.monotonic()
    with pytest.raises(UserError, match=r"or damaged|no dictionary of tensors"):
        read_state_dict(zipped(tmp_path / "x.pth", stream))
    assert time.monotonic() - began < 5


def test_a_file_does_not_unfold_to_many_times_itself(tmp_path):
    state = {"a": torch.zeros(10**6)}
    torch.save(state, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as archive:
        entries = {Path(n).name: archive.read(n) for n in archive.namelist() if "/data/" in n}
        stream = archive.read("whole/data.pkl")
    trap = zipped(tmp_path / "x.pth", stream, zipfile.ZIP_DEFLATED, **entries)
    assert trap.stat().st_size < 10_000
    with pytest.raises(UserError, match="or damaged"):
        read_state_dict(trap)
    assert read_state_dict(tmp_path / "whole.pth")["a"].shape == (10**6,)


@pytest.mark.parametrize(
    "changed,words",
    [
        ({"width": 0}, "width '0' is not a whole number from 1 to 4096"),
        ({"width": "8"}, "width '8' is not"),
        ({"width": 1e30}, "width '1e+30' is not"),
        ({"width": True}, "width 'True' is not"),
        ({"width": 20000}, "width '20000' is not"),
        ({"width": 2000}, "do not fit its own description"),
        ({"blocks": -3}, "blocks '-3' is not"),
        ({"blocks": 900}, "do not fit its own description"),
        ({"in_channels": 0}, "in_channels '0' is not"),
        ({"domains": ["a", "b", "c"]}, "domains are not two different names"),
        ({"domains": ["a", "a"]}, "domains are not two different names"),
        ({"domains": [1, 2]}, "domains are not two different names"),
        ({"domains": None}, "of another version of cyclegan_ms, or damaged"),
        ({"direction": "a2c"}, "direction 'a2c' is neither a2b nor b2a"),
        ({"variant": "unet"}, "variant 'unet' is neither paper nor tutorial"),
        ({"shared_blocks": "no"}, "shared_blocks is neither true nor false"),
        ({"epoch": -1}, "epoch '-1' is not"),
        ({"upsample": []}, "upsample '[]' is not one of transposed, resize"),
        (
            {"variant": "tutorial", "upsample": "resize"},
            "upsample 'resize' is not one of transposed",
        ),
        ({"ema": "much"}, "ema 'much' is not a number from 0 to 1"),
        ({"resized": 1}, "resized is neither true nor false"),
        ({"depth": 3}, "of another version of cyclegan_ms, or damaged"),
        ([], "of another version of cyclegan_ms, or damaged"),
    ],
)
@pytest.mark.parametrize("kind", ["ckpt", "onnx"])
def test_a_description_is_checked_before_anything_is_built(kind, changed, words, tmp_path):
    spec = GeneratorSpec("a2b", ("a", "b"), width=4, blocks=1)
    text = json.dumps(json.loads(spec.to_json()) | changed if changed else changed)
    path = tmp_path / f"g.{kind}"
    lying = SimpleNamespace(to_json=lambda: text, in_channels=3, out_channels=3, name="a2b")
    if kind == "ckpt":
        save_generator(spec.build(), lying, path)
    else:
        _write_onnx(spec.build(), lying, path)
    with pytest.raises(UserError) as error:
        load_engine(path).to_mindspore()
    assert words in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_size_of_a_description_is_that_of_its_network(name):
    """All but biases and normalisation, of any width."""
    for spec in (GENERATORS[name], replace(GENERATORS[name], width=24, blocks=5)):
        parameters = dict(spec.build().parameters_and_names())
        weights = sum(p.size for n, p in parameters.items() if p.ndim == 4)
        assert spec.size() == weights
        spec.check_fits(sum(p.size for p in parameters.values()), "g.ckpt")


def test_a_run_folder_has_a_generator_of_each_direction(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    spec = replace(GENERATORS["paper-3to3"], direction="b2a")
    save_generator(spec.build(), spec, folder / "g_ba.ckpt")
    arguments = ["--input", str(folder), "--output", str(tmp_path / "g.pth")]
    assert convert_weights(arguments) == 2
    assert "is a folder: add --direction a2b or b2a, or give a" in capsys.readouterr().err
    assert convert_weights([*arguments, "--direction", "a2b"]) == 2
    assert "no run with generators, it has no g_ab.ckpt" in capsys.readouterr().err
    assert convert_weights([*arguments, "--direction", "b2a"]) == 0
    assert f"g.pth: {spec.name}, {spec.blocks} blocks, for PyTorch" in capsys.readouterr().out


def test_files_of_16_bit_floats(tmp_path):
    """Half as large, and what is loaded are its weights in 32 bits, off by 2^-11 at most."""
    network = generator("paper-3to3")
    save_generator(network, GENERATORS["paper-3to3"], tmp_path / "whole.ckpt")
    arguments = ["--input", tmp_path / "whole.ckpt", "--output", tmp_path / "half.ckpt"]
    assert convert_weights([str(it) for it in (*arguments, "--float16")]) == 0
    sizes = [(tmp_path / f"{name}.ckpt").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.56 * sizes[1]  # names and description are not halved
    loaded, spec = load_generator(tmp_path / "half.ckpt")
    assert spec == GENERATORS["paper-3to3"]
    for (name, mine), (_, theirs) in zip(
        loaded.parameters_and_names(), network.parameters_and_names(), strict=True
    ):
        assert mine.dtype == ms.float32, name
        expected = theirs.asnumpy().astype(np.float16).astype(np.float32)
        assert np.array_equal(mine.asnumpy(), expected), name
    assert convert_weights([*map(str, arguments), "--float16"]) == 2  # nothing is overwritten
