"""The context switches: Ascend, GPU, CPU; Graph, PyNative; seed; the oneDNN guard."""

import logging
import os
from contextlib import contextmanager
from importlib.metadata import version

from cyclegan_ms.config import UserError

__all__ = ["guard_onednn", "needs_onednn_guard", "quiet_mindspore", "setup_device"]

log = logging.getLogger(__name__)

_INSTALL = {
    "Ascend": "it needs a machine with Ascend NPUs, their driver and the CANN toolkit",
    "GPU": "it needs an NVIDIA GPU, CUDA 11.1 or 11.6 with cuDNN, and MindSpore's Linux wheel",
}


def needs_onednn_guard(mindspore_version: str, cpu_has_avx512: bool) -> bool:
    """Whether convolutions would fall back to scalar reference code on this CPU.

    oneDNN 3.10, which MindSpore carries from 2.9 on, does so for every plain convolution once it
    sees AVX-512 (1900 ms instead of 15 for 256 to 256 channels, 3x3, at 32x32 pixels).
    """
    major, minor = (int(part) for part in mindspore_version.split(".")[:2])
    return cpu_has_avx512 and (major, minor) >= (2, 9)


def guard_onednn() -> None:
    """Hide AVX-512 from oneDNN where it would hurt, unless the user has set that variable.

    oneDNN reads the variable when the first primitive runs, so this comes before any computation.
    """
    # NumPy's own detection: the one that works on every operating system without a dependency.
    from numpy.core._multiarray_umath import __cpu_features__ as features

    if not needs_onednn_guard(version("mindspore"), features.get("AVX512F", False)):
        return
    if "ONEDNN_MAX_CPU_ISA" in os.environ or "DNNL_MAX_CPU_ISA" in os.environ:
        return
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    log.info("set ONEDNN_MAX_CPU_ISA=AVX2: this MindSpore's convolutions are 100x slower without")


def setup_device(target: str = "auto", mode: str = "graph", device_id: int = 0, seed=None) -> str:
    """Choose device and execution mode for this process and say which; returns the target.

    Args:
        target: `auto`, `Ascend`, `GPU` or `CPU`. `auto` takes the first that is there.
        mode: `graph` or `pynative`.
        device_id: which device of the target.
        seed: of MindSpore's random streams; None leaves them alone.

    Raises:
        UserError: the target, or the device of that number, is not there.
    """
    import mindspore as ms

    there = {name: _count(name) for name in ("Ascend", "GPU")}
    missing = [name for name, count in there.items() if not count]
    if target == "auto":
        target = next((name for name, count in there.items() if count), "CPU")
        why = f" (no {' or '.join(missing)} found)" if target == "CPU" else " (found first)"
    elif target in missing:
        raise UserError(
            f"device.target {target} is not available here: {_INSTALL[target]}; auto takes what "
            f"is there"
        )
    else:
        why = ""
    if target != "CPU" and device_id >= there[target]:
        raise UserError(f"device.id {device_id}: this machine has {there[target]} {target} devices")

    if target == "CPU":
        guard_onednn()
        ms.set_device("CPU")
    else:
        ms.set_device(target, device_id)
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    if seed is not None:
        ms.set_seed(seed)
    log.info("MindSpore %s on %s%s, %s mode", ms.__version__, target, why, mode)
    return target


def _count(target):
    import mindspore as ms

    backend = {"Ascend": ms.device_context.ascend, "GPU": ms.device_context.gpu}[target]
    with quiet_mindspore():
        return backend.device_count() if backend.is_available() else 0


@contextmanager
def quiet_mindspore():
    """Silences MindSpore's own log where it only alarms, such as over a device that is absent."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
