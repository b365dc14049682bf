"""Trainings that begin with weights: which are found, which fit, and that they are taken over."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import draw_folder, script, tiny
from pytorch_reference import Discriminator, Generator

from cyclegan_ms import files
from cyclegan_ms.config import DataConfig, load_config
from cyclegan_ms.errors import UserError
from cyclegan_ms.training import train
from cyclegan_ms.training.cyclegan import build_networks
from cyclegan_ms.training.start import read_start
from cyclegan_ms.training.state import TrainingState, load_state, save_state
from cyclegan_ms.translate import Translator
from cyclegan_ms.weights.checkpoint import load_generator

WAYS = {"g_ab": "a2b", "g_ba": "b2a"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """A finished run of one epoch, with a kept epoch."""
    run = tmp_path_factory.mktemp("runs") / "first"
    train(tiny(root, epochs=1, decay_epochs=0, save_every=1, sample_every=0), run)
    return run


def configured(root, source, crop=32, **model):
    config = tiny(root, init_from=str(source), sample_every=0)
    data = DataConfig(str(root), load_size=crop, crop_size=crop, domains=["day", "night"])
    return replace(config, data=data, model=replace(config.model, **model))


def filled(config):
    """The networks of a training that is about to begin: {name: {parameter: values}}."""
    networks = build_networks(config.model, config.data.batch_pixels)
    read_start(config).fill(networks)
    return {
        name: {key: p.asnumpy() for key, p in cell.parameters_and_names()}
        for name, cell in networks.cells().items()
    }


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def generator_of(path):
    return {key: p.asnumpy() for key, p in load_generator(path)[0].parameters_and_names()}


def test_a_run_with_its_discriminators(run, root, caplog):
    """Other domains and another size are fine."""
    caplog.set_level("INFO", "cyclegan_ms")
    networks = filled(configured(root, run, crop=64))
    arrays = load_state(run / "checkpoints").arrays
    for name in ("g_ab", "g_ba", "d_a", "d_b"):
        prefix = f"{name}/"
        stored = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
        assert same(networks[name], stored)
    assert caplog.messages == [
        f"starting from {run}: g_ab of epoch 1, g_ba of epoch 1, discriminators of step 3"
    ]


def test_all_discriminators_of_a_state_are_taken(run, root, tmp_path):
    """Those on features too."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    value = np.ones(3, np.float32)
    arrays = {"d_a/x": value, "features_b/y": 2 * value, "g_ab/z": value}
    save_state(TrainingState(arrays, {"step": 9}), copy / "checkpoints", keep=1)
    found = read_start(configured(root, copy)).networks
    assert list(found["d_a"]) == ["x"] and np.array_equal(found["features_b"]["y"], 2 * value)
    assert "z" not in found["g_ab"]


def test_a_kept_epoch_and_a_single_file_and_what_is_fresh(run, root, tmp_path, caplog):
    caplog.set_level("INFO", "cyclegan_ms")
    kept = run / "checkpoints" / "epoch_0001"
    networks = filled(configured(root, kept))
    assert same(networks["g_ba"], generator_of(run / "g_ba.ckpt"))
    assert "fresh: d_a, d_b" in caplog.messages
    shutil.copy(run / "g_ba.ckpt", tmp_path / "any.ckpt")  # the file itself knows its direction
    networks = filled(configured(root, tmp_path / "any.ckpt"))
    assert same(networks["g_ba"], generator_of(run / "g_ba.ckpt"))
    assert not same(networks["g_ab"], generator_of(run / "g_ab.ckpt"))
    assert "fresh: g_ab, d_a, d_b" in caplog.messages


@pytest.fixture
def pytorch(tmp_path):
    """A folder as the PyTorch reference leaves it: {file's stem: state dict}."""
    torch.manual_seed(0)
    made = {}
    for letter in "AB":
        networks = {"G": Generator(3, 3, 4, 1), "D": Discriminator(3, 4)}
        for kind, network in networks.items():
            for stage in ("5", "latest"):
                name = f"{stage}_net_{kind}_{letter}"
                state = {k: v + (stage == "5") for k, v in network.state_dict().items()}
                torch.save(state, tmp_path / f"{name}.pth")
                made[name] = {k: v.numpy() for k, v in state.items()}
    return tmp_path, made


def test_the_pair_of_pytorch_with_its_discriminators(pytorch, root):
    """D_A judges what G_A makes: images of B."""
    folder, made = pytorch
    networks = filled(configured(root, folder))
    names = {"g_ab": "G_A", "g_ba": "G_B", "d_b": "D_A", "d_a": "D_B"}
    for ours, theirs in names.items():
        assert same(networks[ours], made[f"latest_net_{theirs}"]), ours


def test_a_discriminator_of_another_form_starts_fresh(pytorch, root, caplog):
    caplog.set_level("INFO", "cyclegan_ms")
    folder, made = pytorch
    torch.save(Discriminator(3, 8).state_dict(), folder / "latest_net_D_A.pth")
    networks = filled(configured(root, folder))
    assert "fresh: d_b (of another form there)" in caplog.messages
    assert same(networks["d_a"], made["latest_net_D_B"])


def test_several_generators_of_a_direction(pytorch, root):
    folder, _ = pytorch
    (folder / "latest_net_G_A.pth").rename(folder / "6_net_G_A.pth")
    with pytest.raises(UserError, match=r"several generators a2b \(5_net_G_A.pth, 6_net_G_A.pth"):
        read_start(configured(root, folder))


@pytest.mark.parametrize(
    "model, words",
    [
        ({"width": 8}, "has model.width 4, not 8; --model.width 4 builds one like it"),
        (
            {"blocks": 3, "upsample": "resize"},
            "has model.upsample transposed, not resize, model.blocks 1, not 3; "
            "--model.upsample transposed --model.blocks 1 builds one like it",
        ),
        ({"channels_a": 1}, "has model.channels_a 3, not 1"),
    ],
)
def test_generators_of_other_sizes_are_refused(run, root, model, words):
    config = configured(root, run)
    config = replace(config, loss=replace(config.loss, lambda_identity=0.0))
    config = replace(config, model=replace(config.model, **model))
    with pytest.raises(UserError) as error:
        read_start(config)
    assert f"g_ab.ckpt: its generator {words}" in str(error.value)


def test_nothing_is_there(run, root, tmp_path):
    with pytest.raises(UserError, match="none: no such file or folder"):
        read_start(configured(root, tmp_path / "none"))
    with pytest.raises(UserError, match="holds no generator; give a run folder"):
        read_start(configured(root, tmp_path))
    assert read_start(tiny(root)) is None


def test_a_training_begins_with_them_and_says_so(run, root, tmp_path, monkeypatch):
    """By a relative path, which the run keeps whole; a resume needs the weights no more."""
    source = tmp_path / "source"
    shutil.copytree(run, source)
    monkeypatch.chdir(tmp_path)
    config = replace(configured(root, "source"), train=replace(tiny(root).train, max_steps=1))
    config = replace(config, train=replace(config.train, init_from="source", learning_rate=1e-9))
    model = train(config, tmp_path / "next")
    assert load_config(tmp_path / "next" / "config.yaml").train.init_from == str(source)
    before, after = generator_of(run / "g_ab.ckpt"), generator_of(tmp_path / "next/g_ab.ckpt")
    assert all(np.abs(before[key] - after[key]).max() < 1e-6 for key in before)  # one tiny step
    assert model.optimizer_g.global_step.asnumpy().item() == 1
    shutil.rmtree(source)
    for settings in (config, load_config(tmp_path / "next" / "config.yaml")):
        assert train(settings, tmp_path / "next", resume=True).steps_done == 1


def test_a_shipped_name(run, root, tmp_path, monkeypatch):
    """A folder that comes with the package, below the user's own of that name."""
    shutil.copytree(run, tmp_path / "shipped" / "fruit")
    monkeypatch.setattr(files, "find_shipped", lambda kind: tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    assert read_start(configured(root, "fruit")).source == tmp_path / "shipped" / "fruit"
    assert Translator("fruit", "b2a").spec.direction == "b2a"
    with pytest.raises(UserError, match=r"nuts: no such .*, or one that comes along: fruit"):
        Translator("nuts", "b2a")
    shutil.copytree(run, tmp_path / "runs" / "night")
    (tmp_path / "runs" / "nightt.jpg").touch()
    for name, meant in (("friut", "fruit"), ("runs/nightt", "runs/night")):
        with pytest.raises(UserError, match=rf"{name}: no such .*; did you mean {meant}\?"):
            Translator(name, "b2a")
    shutil.copytree(run, tmp_path / "fruit")
    assert read_start(configured(root, "fruit")).source == tmp_path / "fruit"


def test_generators_of_the_other_direction_are_refused(run, root, tmp_path):
    shutil.copy(run / "g_ba.ckpt", tmp_path / "g_ab.ckpt")
    with pytest.raises(UserError, match=r"g_ab\.ckpt: by its description a generator b2a"):
        read_start(configured(root, tmp_path))
    config = configured(root, run)
    config = replace(config, data=replace(config.data, domains=["orange", "apple"]))
    with pytest.raises(UserError, match=r"its domains are \[apple, orange\], the other way round"):
        read_start(config)


def test_a_file_that_does_not_tell_its_direction(pytorch, root):
    folder, _ = pytorch
    (folder / "latest_net_G_A.pth").rename(folder / "latest_net_G.pth")
    with pytest.raises(UserError, match=r"put it into a folder, as latest_net_G_A\.pth"):
        read_start(configured(root, folder / "latest_net_G.pth"))


def test_the_way_on_after_a_finished_run(run, root, tmp_path):
    """For the epochs that are missing, with the rate falling as asked for."""
    done = script("train", "--resume", "--output", run, "--train.epochs", 3,
                  "--train.decay_epochs", 3)  # fmt: skip
    assert done.returncode == 2
    command = done.stderr.splitlines()[-1]
    assert f"--config {run}/config.yaml --output {run}_2 --train.init_from {run}" in command
    assert command.endswith("--train.epochs 2 --train.decay_epochs 2 --train.max_steps 0")
    arguments = command.split("train.py ")[1].split()
    done = script("train", *arguments, "--dry_run")
    assert done.returncode == 0, done.stderr
    done = script("train", *arguments, "--dry_run", "--model.width=8")
    assert done.returncode == 2 and "has model.width 4, not 8" in done.stderr
