"""The training loop: schedule, determinism, modes, overfitting, faults, the run folder."""

import json
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from helpers import draw_folder, script, tiny, weights
from matplotlib import font_manager
from PIL import Image

import mindspore as ms
from mindspore import nn

from cyclegan_ms.config import LossConfig, load_config
from cyclegan_ms.device import setup_device
from cyclegan_ms.errors import TrainingStopped, UserError
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.model.losses import Term
from cyclegan_ms.model.networks import Bounded
from cyclegan_ms.training import plots, train
from cyclegan_ms.training.cyclegan import CycleGAN, build_networks
from cyclegan_ms.training.plots import cycle_grid, draw_losses
from cyclegan_ms.training.progress import read_metrics
from cyclegan_ms.training.resume import resume_command
from cyclegan_ms.training.schedule import Schedule, learning_rates
from cyclegan_ms.training.state import load_state
from cyclegan_ms.training.steps import EpochRates, adam


@pytest.mark.parametrize("gain,rate", [(0.02, 2e-4), (0.5, 1e-2)])
def test_a_penalty_on_saturation(gain, rate, data_root, tmp_path):
    """Fresh networks are nearly within bounds; what large weights make is pulled back."""
    real = ms.Tensor(np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32)), ms.float32)
    beyond, trained = [], []
    for weight in (0.0, 10.0):
        config = tiny(data_root, max_steps=6, sample_every=0, learning_rate=rate)
        config = replace(
            config, loss=LossConfig(lambda_saturation=weight),
            model=replace(config.model, init_gain=gain),
        )  # fmt: skip
        model = train(config, tmp_path / str(weight), progress=False)
        beyond.append(float(Bounded(model.networks.g_ab)(real)[1]))
        trained.append(weights(model))
    row = read_metrics(tmp_path / "10.0" / "metrics.jsonl")[-1]
    same = all(np.array_equal(it, trained[1][key]) for key, it in trained[0].items())
    if gain == 0.02:
        # With 4 and 8 channels, more of whose squares are far from their mean than with 32 and 64.
        assert max(beyond) < 0.05 and max(row["sat_a"], row["sat_b"]) < 1
    else:
        assert not same and 0 < beyond[1] < 0.8 * beyond[0] and row["sat_a"] > 0


def test_images_that_vanish_cost_nothing(data_root, tmp_path):
    """As when a disk is unplugged: what was done is saved, and goes on once it is back."""
    config, run = tiny(data_root, epochs=400, sample_every=0, state_minutes=1e3), tmp_path / "run"
    folder, gone = data_root / "trainA", data_root / "gone"

    def unplug(row):
        if folder.exists():
            folder.rename(gone)

    with pytest.raises(TrainingStopped, match=r"(?s)none of its images.*All of step") as error:
        train(config, run, progress=False, on_line=unplug)
    step = load_state(run / "checkpoints").facts["step"]
    assert f"All of step {step} is saved; go on with\n{resume_command(run)}" in str(error.value)
    gone.rename(folder)
    longer = replace(config, train=replace(config.train, max_steps=step + 2))
    assert train(longer, run, resume=True, progress=False).steps_done == step + 2


def test_the_page_says_that_it_was_stopped(data_root, tmp_path, caplog):
    """At the step where it was, also before the first line of metrics.jsonl."""
    caplog.set_level("INFO", "cyclegan_ms")
    stop = StopRequest()
    stop.caught = signal.SIGINT
    run = tmp_path / "run"
    with pytest.raises(TrainingStopped, match="stopped by SIGINT after step 1"):
        train(tiny(root=data_root, log_every=5), run, progress=False, stop=stop)
    page = (run / "index.html").read_text()
    assert f'Stopped. To go on: <code class="command">{resume_command(run)}</code>' in page
    assert "</small>1 of " in page and "running = false" in page
    assert "epoch_0001.png" in page
    names = {"trainA": "apple", "trainB": "orange"}
    few, folder = min((len(list((data_root / name).iterdir())), name) for name in names)
    advice = f"only {few} images of {names[folder]}: --loss.diff_augment true helps, and so does"
    assert any(message.startswith(advice) for message in caplog.messages)


def test_learning_rates_of_the_paper():
    rates = learning_rates(2e-4, 200, 100)
    assert len(rates) == 200
    factors = np.array(rates) / 2e-4
    assert factors[:100].tolist() == [1] * 100
    assert factors[100] == pytest.approx(100 / 101)
    assert factors[199] == pytest.approx(1 / 101)
    assert np.diff(factors[99:]) == pytest.approx(-1 / 101)


def test_learning_rates_at_the_edges():
    assert learning_rates(1.0, 3, 0) == [1.0] * 3
    assert learning_rates(1.0, 3, 3) == pytest.approx([3 / 4, 2 / 4, 1 / 4])


def test_the_schedule_of_a_large_training():
    """Nothing in it has the length of the training."""
    schedule = Schedule.of(tiny(epochs=200, decay_epochs=100), 100_000, 1)
    assert (schedule.last, len(schedule.rates)) == (20_000_000, 200)
    assert schedule.rate(1) == schedule.rate(10_000_000) == 2e-4
    assert schedule.rate(10_000_001) == 2e-4 * (1 - 1 / 101)
    assert schedule.rate(20_000_000) == 2e-4 * (1 - 100 / 101)
    assert Schedule.of(tiny(max_steps=7), 100_000, 1).last == 7
    with pytest.raises(UserError, match="2200000000 steps are more than can be counted"):
        Schedule.of(tiny(epochs=22_000), 100_000, 1)


def test_rates_are_those_of_a_list_of_all_steps(mode):
    """Bit for bit, at every step, in both modes; beyond 2^24 steps too."""
    rates = learning_rates(2e-4, 20, 13)
    cell = EpochRates(rates, 3)
    found = [cell(ms.Tensor([step], ms.int32)).asnumpy().item() for step in range(63)]
    assert found == np.repeat(np.float32([*rates, rates[-1]]), 3).tolist()
    cell = EpochRates(rates, 1_000_001)
    for epoch in (16, 17, 18, 19):
        for step, index in ((epoch * 1_000_001 - 1, epoch - 1), (epoch * 1_000_001, epoch)):
            found = cell(ms.Tensor([step], ms.int32)).asnumpy()
            assert found.item() == np.float32(rates[index])


def test_weights_are_those_that_a_list_of_rates_gives(mode, rng):
    """Adam takes the same steps as with MindSpore's own list of rates, bit for bit."""
    rates, weights = [3e-3, 2e-3, 1e-3], []
    gradients = [ms.Tensor(rng.normal(size=(2, 5)), ms.float32) for _ in range(6)]
    for every in (None, 2):
        cell = nn.Dense(5, 2, weight_init="ones", has_bias=False)
        if every:
            optimizer = adam([cell], rates, 0.5, 1e-8, every)
            assert not [p for p in optimizer.get_parameters() if "learning_rate" in p.name]
        else:
            options = {"learning_rate": np.repeat(rates, 2).tolist(), "beta1": 0.5, "eps": 1e-8}
            optimizer = nn.Adam(cell.trainable_params(), **options)
        for gradient in gradients:
            optimizer((gradient,))
        weights.append(cell.weight.asnumpy())
    assert np.array_equal(*weights)


def test_the_optimizers_follow_the_epochs(images):
    config = tiny()
    rates = [3e-4, 2e-4, 1e-4]
    model = CycleGAN(build_networks(config.model, 32 * 32), config, rates, per_epoch=2)
    for rate in (*np.repeat(rates, 2), 1e-4):
        for optimizer in (model.optimizer_g, model.optimizer_d):
            assert optimizer.get_lr().asnumpy() == np.float32(rate)
        model.step(images(), images())


def run_steps(config, count, seed=0):
    rng = np.random.default_rng(seed)
    model = CycleGAN(build_networks(config.model, 32 * 32), config, [2e-4] * count)
    shape = (1, 3, 32, 32)
    batches = [rng.uniform(-1, 1, (2, *shape)).astype(np.float32) for _ in range(count)]
    return model, [model.step(a, b) for a, b in batches]


def test_same_seed_same_weights_and_losses():
    results = []
    for seed in (1, 1):
        setup_device("CPU", seed=seed)
        model, losses = run_steps(tiny(), 3)
        results.append((weights(model), losses))
    (w1, l1), (w2, l2) = results
    assert l1 == l2
    assert all(np.array_equal(w1[name], w2[name]) for name in w1)
    first = []
    for seed in (1, 2):
        setup_device("CPU", seed=seed)
        first.append(build_networks(tiny().model).g_ab.model[1].weight.asnumpy())
    assert not np.array_equal(*first)


def test_graph_equals_pynative():
    losses = {}
    for mode in ("graph", "pynative"):
        setup_device("CPU", mode, seed=0)
        losses[mode] = run_steps(tiny(), 4)[1]
    setup_device("CPU", "graph", seed=0)
    for graph, pynative in zip(losses["graph"], losses["pynative"]):
        assert graph == pytest.approx(pynative, rel=1e-4)


def test_a_fixed_batch_is_overfitted():
    """Flat colours: cycle and identity losses of one pair fall to a fraction of their start."""
    setup_device("CPU", seed=0)
    config = tiny()
    model = CycleGAN(build_networks(config.model, 32 * 32), config, [2e-3] * 150)
    real_a = np.full((1, 3, 32, 32), 0.5, np.float32)
    real_b = np.full((1, 3, 32, 32), -0.5, np.float32)
    losses = [model.step(real_a, real_b) for _ in range(150)]
    for name in ("cycle_a", "cycle_b", "idt_a", "idt_b"):
        assert np.mean([step[name] for step in losses[-10:]]) < 0.2 * losses[0][name], name


def test_a_loss_that_is_not_a_number_stops_with_the_step(images):
    config = tiny()
    model = CycleGAN(build_networks(config.model, 32 * 32), config, [2e-4] * 3)
    model.step(images(), images())
    broken = images()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(TrainingStopped) as error:
        model.step(broken, images())
    text = str(error.value)
    assert text.startswith("step 2: a loss is not finite (")
    assert "cycle_a nan" in text
    assert "train.learning_rate" in text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs and what it was configured with."""
    root = draw_folder(tmp_path_factory.mktemp("data"))
    config = tiny(root)
    output = tmp_path_factory.mktemp("runs") / "first"
    return train(config, output), config, output


def test_run_folder(finished):
    _, config, output = finished
    files = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    assert files == {
        "config.yaml",
        "metrics.jsonl",
        "losses.png",
        "index.html",
        "g_ab.ckpt",
        "g_ba.ckpt",
        "samples/epoch_0001.png",
        "samples/epoch_0002.png",
        "checkpoints/latest",
        *(
            f"checkpoints/step_0000000{step}/{name}"
            for step in (3, 6)
            for name in ("arrays.safetensors", "facts.json", "sha256.json")
        ),
    }
    assert load_config(output / "config.yaml") == config
    # Three columns of 32 pixels per direction, gaps of 4, a header of 18, one row.
    assert Image.open(output / "samples" / "epoch_0001.png").size == (6 * 36 + 4, 18 + 36)


def test_metrics(finished):
    output = finished[2]
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 2), (1, 3), (2, 4), (2, 6)]
    assert [row["learning_rate"] for row in rows] == pytest.approx([2e-4, 2e-4, 1e-4, 1e-4])
    names = ["g_ab", "g_ba", "cycle_a", "cycle_b", "idt_a", "idt_b", "d_a", "d_b"]
    for row in rows:
        assert list(row)[2:10] == names
        assert row["images_per_s"] == pytest.approx(2 / row["step_s"], rel=0.1)
        assert 0 <= row["wait_share"] <= 1


def test_the_page_needs_nothing_but_the_folder(finished):
    output = finished[2]
    page = (output / "index.html").read_text()
    assert "http" not in page
    links = re.findall(r'src="([^"]+)"', page)
    assert links == ["samples/epoch_0001.png", "samples/epoch_0002.png"]
    assert all((output / link).is_file() for link in links)
    assert "<small>epoch</small>2 of 2" in page and "<small>step</small>6 of 6" in page
    assert "apple (A) and orange (B)." in page and "Finished." in page
    assert "crop_size: 32" in page and "<td>mindspore</td>" in page
    for row in read_metrics(output / "metrics.jsonl")[-1:]:
        for key in ("g_ab", "cycle_b", "idt_a", "d_b"):
            assert f", {key}: {row[key]:.2f}</li>" in page


def test_a_failing_report_does_not_end_the_training(finished, tmp_path, caplog):
    _, config, output = finished
    run = tmp_path / "run"
    shutil.copytree(output, run)
    shutil.rmtree(run / "checkpoints" / "step_00000006")
    (run / "losses.png").unlink()
    (run / "losses.png").mkdir()  # cannot be replaced by a file
    assert train(config, run, resume=True).steps_done == 6
    assert "the report of epoch 2 could not be made" in caplog.text


@pytest.mark.quick
@pytest.mark.parametrize("panels,size", [(3, (1210, 352)), (5, (1210, 704))])
def test_curves_have_room(panels, size, tmp_path):
    """Three stand in a row, more go on below: a legend never lies on the curves beside it."""
    terms = [Term(f"term_{i}", f"t{i}", f"panel {i}", "generator A to B") for i in range(panels)]
    rows = [{"step": step, **{term.key: 1 / step for term in terms}} for step in (1, 2, 3)]
    draw_losses(rows, terms, tmp_path / "losses.png")
    assert Image.open(tmp_path / "losses.png").size == size


def test_max_steps_ends_early_and_complete(finished, tmp_path):
    _, config, _ = finished
    early = tiny(config.data.root, epochs=5, max_steps=4)
    lines = []
    model = train(early, tmp_path / "early", on_line=lines.append)
    assert model.steps_done == 4
    assert [line["step"] for line in lines] == [2, 3, 4]
    assert lines == read_metrics(tmp_path / "early" / "metrics.jsonl")
    assert (tmp_path / "early" / "g_ab.ckpt").is_file()
    assert (tmp_path / "early" / "samples" / "epoch_0002.png").is_file()
    train(early, tmp_path / "early", resume=True)  # nothing is left to do, and nothing is lost
    assert lines == read_metrics(tmp_path / "early" / "metrics.jsonl")


def test_nothing_is_overwritten(finished):
    _, config, output = finished
    before = (output / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        train(config, output)
    assert (output / "metrics.jsonl").read_bytes() == before


def test_no_test_images_are_needed_without_samples(data_root, tmp_path):
    (data_root / "testA" / "0.png").unlink()
    with pytest.raises(UserError, match=r"testA: holds no image.*\n--train.sample_every 0 trains"):
        train(tiny(data_root), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    without = ("--train.sample_every", 0, "--data.root", data_root, "--output", tmp_path / "b")
    done = script("train", "--config", "quickstart", "--dry_run", *without)
    assert done.returncode == 0, done.stderr


@pytest.mark.quick
def test_names_in_letters_that_no_font_has(monkeypatch):
    """Domains are A and B on the grid then, and no boxes; the page has their names."""
    images = np.zeros((1, 3, 40, 40), np.float32)
    cycles = [(images, images, images)] * 2

    def headers(domains):
        return np.asarray(cycle_grid(cycles, domains))[:18]

    plots._font.cache_clear()
    assert (headers(("яблоко", "é")) != headers(("A", "B"))).any()  # matplotlib brings these
    assert (headers(("яблоко", "é")) != headers(("ябкоко", "é"))).any()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    plots._font.cache_clear()
    assert np.array_equal(headers(("苹果", "橙子")), headers(("A", "B")))
    assert (headers(("apple", "orange")) != headers(("A", "B"))).any()
    plots._font.cache_clear()
