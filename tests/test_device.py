"""The context switches and the oneDNN guard."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

import mindspore as ms

from cyclegan_ms.device import (
    Device,
    check_precision,
    free_memory,
    needs_onednn_guard,
    setup_device,
)
from cyclegan_ms.errors import UserError

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "mindspore,avx512,needed",
    [
        ("2.7.0", True, False),
        ("2.8.0", True, False),
        ("2.9.0", True, True),
        ("2.10.0", True, True),
        ("2.10.0", False, False),
        ("3.0.0rc1", True, True),
    ],
)
def test_guard_only_where_it_is_needed(mindspore, avx512, needed):
    assert needs_onednn_guard(mindspore, avx512) is needed


def run_setup(environment):
    code = (
        "import logging, os; logging.basicConfig(format='%(message)s', level=logging.INFO);"
        "from cyclegan_ms.device import setup_device; setup_device('CPU'); setup_device('CPU');"
        "print(os.environ.get('ONEDNN_MAX_CPU_ISA'))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_MAX_CPU_ISA")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_guard_is_said_once():
    from numpy.core._multiarray_umath import __cpu_features__ as features

    needed = needs_onednn_guard(version("mindspore"), features["AVX512F"])
    done = run_setup({})
    assert done.stdout.split() == ["AVX2" if needed else "None"]
    assert done.stderr.count("ONEDNN_MAX_CPU_ISA") == (1 if needed else 0)


def test_guard_leaves_the_users_own_setting():
    done = run_setup({"ONEDNN_MAX_CPU_ISA": "SSE41"})
    assert done.stdout.split() == ["SSE41"]
    assert "ONEDNN" not in done.stderr


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_missing_target(target):
    with pytest.raises(UserError) as error:
        setup_device(target)
    text = str(error.value)
    assert f"device.target {target} is not available here" in text
    assert "\n" not in text


def test_auto_says_what_it_took_and_why(caplog):
    with caplog.at_level("INFO", "cyclegan_ms"):
        assert setup_device("auto").target == "CPU"
    assert "on CPU (no Ascend or GPU found), graph mode" in caplog.text


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_the_settings_of_an_accelerator_are_known_to_mindspore(target):
    """Without that device it logs that it has no use for them; a wrong name or type raises."""
    code = (
        "import mindspore as ms; from cyclegan_ms.device import compute_exactly;"
        f"ms.set_device('CPU'); compute_exactly('{target}');"
        "print(ms.get_context('deterministic'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ON"]


def test_the_values_of_an_accelerators_settings_are_known_to_mindspore():
    """They are checked only where there is such a device: here against what it documents."""
    tuning = ms.device_context.gpu.op_tuning
    for setting in (tuning.conv_dgrad_algo, tuning.conv_wgrad_algo):
        (meaning,) = re.findall(r"- algo_1: (.*?)\n\s+- ", setting.__doc__, re.S)
        assert "deterministic" in meaning and "non-deterministic" not in meaning
    mode = ms.device_context.ascend.op_precision.precision_mode
    assert "- must_keep_origin_dtype: " in mode.__doc__


def test_mode_switch():
    setup_device("CPU", "pynative")
    assert ms.get_context("mode") == ms.PYNATIVE_MODE
    setup_device("CPU", "graph")
    assert ms.get_context("mode") == ms.GRAPH_MODE


def test_precision_that_a_target_has_not(caplog):
    for target in ("CPU", "GPU"):
        with pytest.raises(UserError, match=f"device.amp bf16 is not available on {target}"):
            check_precision("bf16", target)
    check_precision("O2", "CPU")
    assert "gains nothing on CPU" in caplog.text
    caplog.clear()
    for amp, target in (("O0", "CPU"), ("O2", "GPU"), ("O2", "Ascend"), ("bf16", "Ascend")):
        check_precision(amp, target)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "own,files,free",
    [
        (
            "0::/app/job",  # version 2: the parent's limit is the tighter one
            {
                "app/job": {"memory.max": "max", "memory.current": "5000"},
                "app": {"memory.max": "9000", "memory.current": "6000"},
            },
            3000 + 100,
        ),
        (
            "5:cpu,memory:/",  # version 1, as containers see it
            {"memory": {"memory.limit_in_bytes": "9000", "memory.usage_in_bytes": "8000"}},
            1000 + 200,
        ),
        ("0::/", {".": {"memory.max": "100", "memory.current": "500"}}, 0),
        ("3:cpu:/\n0::/", {".": {}}, None),
    ],
)
def test_free_memory_knows_the_limits_of_containers(own, files, free, tmp_path):
    for folder, contents in files.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        stat = "anon 7\ninactive_file 100\ntotal_inactive_file 200"
        for name, text in {**contents, "memory.stat": stat}.items():
            (tmp_path / folder / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    found = free_memory(tmp_path, tmp_path / "own")
    if free is None:
        assert found == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    else:
        assert found == free


def test_a_single_worker_shares_with_nobody():
    alone = Device()
    assert alone.leads and alone.agree(7, 1) == [7, 1]
    tensor = ms.Tensor([0, 1, 2])
    assert alone.gather(tensor) is tensor


def test_device_number_with_msrun(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    with pytest.raises(UserError, match=r"device\.id must be 0 with msrun"):
        setup_device("CPU", device_id=1, join=True)


def test_the_seed_reaches_every_stream():
    """Of MindSpore's default generator too, whose state is a part of what a resume needs."""
    states = []
    for before in (123, 77):
        ms.manual_seed(before)
        setup_device("CPU", seed=5)
        states.append(ms.get_rng_state().asnumpy().tolist())
    assert states[0] == states[1]
    setup_device("CPU", seed=0)


def test_a_device_can_be_chosen_after_it_was_used():
    """Translating before training, as in a notebook."""
    code = (
        "import numpy as np, mindspore as ms\n"
        "from cyclegan_ms.device import setup_device\n"
        "from cyclegan_ms.translate import Translator\n"
        "Translator('apple2orange', 'a2b')(np.zeros((8, 8, 3), np.uint8))\n"
        "print(setup_device('CPU').target, ms.get_context('mode') == ms.GRAPH_MODE)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "CPU True\n", done.stderr
