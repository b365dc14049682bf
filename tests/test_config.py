"""The configuration: shipped files, overrides, and what is refused, in which words."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cyclegan_ms.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OnResume,
    TrainConfig,
    build_config,
    config_parser,
    config_values,
    load_config,
    resume_rules,
    save_config,
)
from cyclegan_ms.data.splits import find_root
from cyclegan_ms.errors import UserError

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]


def parse(*arguments):
    return build_config(config_parser("train.py", "").parse_args(list(arguments)))


def test_defaults_are_the_papers():
    config = Config()
    assert (config.data.load_size, config.data.crop_size) == (286, 256)
    assert (config.model.blocks, config.model.width) == (9, 64)
    assert (config.loss.gan, config.loss.lambda_a, config.loss.lambda_b) == ("lsgan", 10, 10)
    train = config.train
    assert (train.epochs, train.decay_epochs, train.learning_rate) == (200, 100, 2e-4)
    assert (train.beta1, train.pool_size, config.data.batch_size) == (0.5, 50, 1)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_files_load(path):
    load_config(path)


def test_recipe_file_is_the_default():
    assert load_config(ROOT / "configs" / "apple2orange.yaml") == Config()


@pytest.mark.parametrize("argument", [["--config", "quickstart"], ["--config=quickstart"]])
def test_a_shipped_file_by_its_name(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(*argument) == load_config(ROOT / "configs" / "quickstart.yaml")
    assert load_config("quickstart").data.root == "sample"
    (tmp_path / "quickstart").write_text("train: {epochs: 7}\n")  # a file of that name comes first
    assert parse(*argument).train.epochs == 7


def test_a_name_that_is_not_shipped(capsys):
    with pytest.raises(SystemExit):
        parse("--config", "quikstart")
    assert "quikstart" in capsys.readouterr().err


def test_what_a_resume_may_change():
    """Declared beside each key; all others make another training."""
    rules = resume_rules()
    always = {
        *("data.workers", "train.init_from", "device.target", "device.mode", "device.id"),
        *(f"train.{key}" for key in ("max_steps", "log_every", "save_every", "sample_every")),
        *(f"train.{key}" for key in ("evaluate_every", "keep", "state_minutes", "tensorboard")),
    }
    assert {key for key, rule in rules.items() if rule is OnResume.ALWAYS} == always
    assert {key: rule for key, rule in rules.items() if key not in always} == {
        "data.root": OnResume.SAME_IMAGES,
        "data.batch_size": OnResume.SAME_STEP,
        "train.epochs": OnResume.SAME_RATES,
        "train.decay_epochs": OnResume.SAME_RATES,
    }
    assert set(rules) < set(config_values(Config()))


def test_every_key_is_explained_in_a_phrase(capsys):
    """In `--help`: a capital letter and more than a word or two."""
    help_text = config_parser("train.py", "").format_help()
    entries = re.findall(r"^  --(\w+\.\w+)[^\n]*?(?:\n {10,}| {2,})(\S[^\n]*)", help_text, re.M)
    assert {key for key, _ in entries} >= set(config_values(Config()))
    for key, phrase in entries:
        assert phrase[0].isupper() and len(phrase.split()) > 2, f"{key}: {phrase}"


def test_flags_override_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("train:\n  epochs: 7\n  learning_rate: 1e-4\ndata:\n  domains: [cat, dog]\n")
    config = parse(f"--config={path}", "--train.epochs=9", "--data.flip=false")
    assert config.train.epochs == 9
    assert config.train.learning_rate == 1e-4
    assert config.data.domains == ["cat", "dog"]
    assert config.data.flip is False


@pytest.mark.parametrize("size,blocks", [(64, 6), (128, 6), (132, 9), (256, 9)])
def test_blocks_follow_the_size(size, blocks):
    assert Config(DataConfig(crop_size=size)).model.blocks == blocks


def test_saved_file_gives_the_same_configuration(tmp_path):
    config = parse("--train.epochs=3", "--data.crop_size=64", "--data.domains=[苹果,橘子]")
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--train.epochs=0"], '"train.epochs": 0 is not more than 0'),
        (["--data=photos"], "--data takes no value: its keys do, see --help"),
        (["--train.epochs=many"], "\"train.epochs\": 'many' is no whole number"),
        (["--train.ema=much"], "\"train.ema\": 'much' is no number"),
        (["--data.flip=maybe"], '"data.flip": must be true or false, not maybe'),
        (["--train.beta1=1"], '"train.beta1": 1 is not more than 0 and less than 1'),
        (["--train.epocs=3"], "did you mean --train.epochs?"),
        (["--data.load_size=many"], "\"data.load_size\": 'many' is no whole number"),
        (["--data.load_size=0"], '"data.load_size": 0 is not more than 0'),
        (["--model.blocks=nine"], "\"model.blocks\": 'nine' is no whole number"),
        (["--data.value_range=[a,b]"], "a is no number"),
        (["--train.epochs=null"], '"train.epochs": must be a whole number, not NoneType'),
        (["--train.epochs=2.5"], "\"train.epochs\": '2.5' is no whole number"),
        (["--data.domains=[1,2]"], "Expected words, in quotes"),
        (["--device.target=TPU"], '"device.target": Expected one of'),
        (["--data.domains=apple"], '"data.domains": Expected a list, such as [one, two]'),
        (
            ["--config=nowhere.yaml"],
            "nowhere.yaml: no such file, and no configuration of that name",
        ),
        (["--config", "aple2orange64"], "did you mean apple2orange_64?"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_bad_flags(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "<class" not in error and "Union" not in error and "Not of type" not in error
    assert error.count("\n") <= 2 and len(error) < 250


@pytest.mark.parametrize(
    "text,words",
    [
        ("train:\n  epocs: 3\n", "did you mean train.epochs?"),
        ("trian:\n  epochs: 3\n", "did you mean train.epochs?"),
        ("train:\n  epochs: -3\n", '"train.epochs"'),
        ("train:\n  beta1: 1.5\n", '"train.beta1"'),
        (
            "train: [\n",
            "bad.yaml, line 2: expected the node content, but found '<stream end>'; is it YAML?",
        ),
        ("\n", "bad.yaml: the configuration holds no settings"),
        ("hello\n", "bad.yaml: the configuration holds no settings"),
    ],
)
def test_bad_files(text, words, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "sections,words",
    [
        ({"data": DataConfig(crop_size=250)}, "data.crop_size must be a multiple of 4"),
        ({"data": DataConfig(crop_size=16)}, "at least 32"),
        ({"data": DataConfig(load_size=200)}, "data.load_size (200) is smaller"),
        ({"data": DataConfig(domains=["a"])}, "data.domains needs two"),
        ({"data": DataConfig(domains=["a", "a"])}, "data.domains needs two"),
        ({"train": TrainConfig(epochs=5, decay_epochs=6)}, "train.decay_epochs (6) is more"),
        ({"train": TrainConfig(seed=2**32)}, "train.seed must be less"),
        ({"model": ModelConfig(channels_a=1)}, "loss.lambda_identity must be 0"),
    ],
)
def test_bad_combinations(sections, words):
    with pytest.raises(UserError) as error:
        Config(**sections)
    assert words in str(error.value)


def test_gray_to_color_without_identity_is_fine():
    Config(model=ModelConfig(channels_a=1), loss=LossConfig(lambda_identity=0.0))


def test_configuration_needs_no_mindspore():
    code = "import sys, cyclegan_ms.cli, cyclegan_ms.config; assert 'mindspore' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "text,words",
    [
        ("train:\n  # epochs: 3\ndata:\n  crop_size: 64\n", "section train is empty"),
        ("train:\n", "holds no settings"),
        ("train:\n  learning_rate:\n", "train.learning_rate has no value"),
        ("data:\n  root: null\n", "data.root has no value"),
        ("train:\n  epochs: 3\ntrain:\n  seed: 1\n", "train is given twice, again in line 3"),
        ("train:\n  init_from: 2024-02-30\n", "bad.yaml: day is out of range"),
        ("train:\n  epochs: 3\n  epochs: 4\n", "epochs is given twice, again in line 3"),
        ("train:\n  epochs: 3\n".encode("utf-16"), "not text in UTF-8"),
        ("data:\n  domains: [Äpfel, Birnen]\n".encode("latin-1"), "not text in UTF-8"),
        ("data:\n  domains: [yes, no]\n", "write them in quotes, 'yes'"),
        ("- a\n", "bad.yaml: the configuration holds no settings"),
        ("{[a]: 1}\n", "bad.yaml"),
    ],
)
def test_what_yaml_forgives_and_a_training_does_not(text, words, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        load_config(path)
    assert words in str(error.value) and str(error.value).count("\n") <= 1


def test_keys_that_may_be_null_and_files_with_a_mark(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  blocks:\ntrain:\n  decay_epochs: null\n", encoding="utf-8-sig")
    config = load_config(path)
    assert (config.model.blocks, config.train.decay_epochs) == (9, 100)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("data:\n  root: ~/photos\n")
    assert parse("--config=~/c.yaml").data.root == "~/photos"
    assert parse("--config", "~/c.yaml", "--data.root", "~/other").data.root == f"{tmp_path}/other"
    (tmp_path / "photos").mkdir()
    assert find_root("~/photos") == tmp_path / "photos"


@pytest.mark.parametrize("crop,load", [(256, 286), (128, 143), (96, 107), (64, 71)])
def test_the_load_size_follows_the_crop(crop, load):
    """Else the networks would see corners of what is in the pictures."""
    assert parse(f"--data.crop_size={crop}").data.load_size == load
    assert parse(f"--data.crop_size={crop}", "--data.load_size=300").data.load_size == 300


def test_settings_of_a_file_can_be_changed_from_python():
    changes = {"train.epochs": 9, "data.domains": ["[cat]", "dog"], "data.load_size": None}
    config = load_config("quickstart", changes)
    assert (config.train.epochs, config.data.load_size) == (9, 71)
    assert config.data.domains == ["[cat]", "dog"]
    assert config.train.decay_epochs == load_config("quickstart").train.decay_epochs
    with pytest.raises(UserError, match=r"--train\.epoch=9; did you mean --train\.epochs"):
        load_config("quickstart", {"train.epoch": 9})


def test_fewer_epochs_than_the_decay_are_told_the_way():
    with pytest.raises(
        UserError, match=r"\(4\) is more than .* \(3\), .* add --train.decay_epochs null"
    ):
        parse("--config=quickstart", "--train.epochs=3")
    config = parse("--config=quickstart", "--train.epochs=3", "--train.decay_epochs=null")
    assert config.train.decay_epochs == 1
