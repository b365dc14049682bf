"""Where and how to compute: Ascend, GPU, CPU; Graph, PyNative; seed; workers; the oneDNN guard."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cyclegan_ms.errors import UserError

if TYPE_CHECKING:
    import mindspore as ms

__all__ = [
    "Device",
    "WorkerLost",
    "check_precision",
    "compute_exactly",
    "environment",
    "free_memory",
    "guard_onednn",
    "launched_workers",
    "needs_onednn_guard",
    "quiet_mindspore",
    "setup_device",
    "watch_workers",
]

log = logging.getLogger(__name__)

_INSTALL = {
    "Ascend": "it needs a machine with Ascend NPUs, their driver and the CANN toolkit",
    "GPU": "it needs an NVIDIA GPU, CUDA 11.1 or 11.6 with cuDNN, and MindSpore's Linux wheel",
}


class WorkerLost(Exception):
    """A process of a training on several devices has died, and the others cannot go on."""


@dataclass(frozen=True)
class Device:
    """Where this process computes, and its place among the workers of a training."""

    target: str = "CPU"
    rank: int = 0
    workers: int = 1

    @property
    def leads(self) -> bool:
        """Whether this worker writes and speaks for all."""
        return self.rank == 0

    def gather(self, tensor: "ms.Tensor") -> "ms.Tensor":
        """Join the tensors (N, ...) of all workers to (workers * N, ...), in order of rank.

        Raises:
            WorkerLost: another worker is gone; noticed after half a minute, here or when the result
                is read, which `watch_workers` has to watch then.
        """
        if self.workers == 1:
            return tensor
        import mindspore as ms

        with watch_workers(self.workers):
            return ms.ops.AllGather()(tensor)

    def agree(self, *numbers: int) -> list[int]:
        """Return the maximum of each number over all workers. Also a barrier.

        Raises:
            WorkerLost: another worker is gone; noticed after half a minute.
        """
        import mindspore as ms

        with watch_workers(self.workers):
            gathered = self.gather(ms.Tensor([numbers or [0]], ms.int32)).asnumpy()
        return gathered.max(axis=0).tolist()


@contextmanager
def watch_workers(workers: int) -> Iterator[None]:
    """Turn what MindSpore raises when a worker is gone into `WorkerLost`."""
    try:
        yield
    except RuntimeError as error:
        if workers == 1:
            raise
        raise WorkerLost(str(error).strip().splitlines()[0]) from error


def launched_workers() -> int:
    """Return how many workers `msrun` started this process among; 1 without it."""
    return int(os.environ.get("MS_WORKER_NUM", 1))


def environment(device: Device, *more: str) -> dict[str, str]:
    """Return what a run depended on besides its settings: versions, device, machine.

    Args:
        device: where it ran.
        more: further packages to name the versions of.
    """
    facts = {name: version(name) for name in ("mindspore", "numpy", "pillow", *more)}
    facts["python"] = platform.python_version()
    facts["device"] = device.target
    if device.workers > 1:
        facts["workers"] = str(device.workers)
    return {**facts, "machine": f"{platform.system()} {platform.machine()}"}


def free_memory(cgroups="/sys/fs/cgroup", own="/proc/self/cgroup") -> int:
    """Return how many bytes this process may still use, within the limits of a container too.

    Args:
        cgroups: where control groups are mounted, version 1 or 2.
        own: the file that names this process's groups.
    """
    free = [psutil.virtual_memory().available]
    try:
        lines = Path(own).read_text().splitlines()
    except OSError:  # not Linux
        return free[0]
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, names = Path(cgroups), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = Path(cgroups, "memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            if folder == base.parent:
                break
            free += _free_in_group(folder, *names)
    return max(0, min(free))


def _free_in_group(folder, limit, usage, inactive):
    """Return [the bytes that a control group leaves], or [] if it has no limit."""
    try:
        most, used = (folder.joinpath(name).read_text().strip() for name in (limit, usage))
        stat = dict(
            line.split() for line in folder.joinpath("memory.stat").read_text().splitlines()
        )
        # Files that nobody has used for a while are counted, and given up when memory is short.
        return [] if most == "max" else [int(most) - int(used) + int(stat[inactive])]
    except (OSError, KeyError, ValueError):  # the root of version 2 has none of them
        return []


def needs_onednn_guard(mindspore_version: str, cpu_has_avx512: bool) -> bool:
    """Return whether convolutions would fall back to scalar reference code on this CPU.

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
    from numpy.core._multiarray_umath import (  # type: ignore[import-not-found]
        __cpu_features__ as features,
    )

    if not needs_onednn_guard(version("mindspore"), features.get("AVX512F", False)):
        return
    if "ONEDNN_MAX_CPU_ISA" in os.environ or "DNNL_MAX_CPU_ISA" in os.environ:
        return
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    log.info(
        "using ONEDNN_MAX_CPU_ISA=AVX2: this MindSpore's convolutions are 100 times slower without"
    )


def setup_device(
    target: str = "auto",
    mode: str = "graph",
    device_id: int = 0,
    seed: int | None = None,
    join: bool = False,
) -> Device:
    """Choose device and execution mode for this process and say which.

    Args:
        target: `auto`, `Ascend`, `GPU` or `CPU`. `auto` takes the first that is there.
        mode: `graph` or `pynative`.
        device_id: number of the device, of several of the target.
        seed: seed of MindSpore's random streams; None leaves them alone.
        join: train together with the other processes, if `msrun` started any. Its scheduler stays
            in here until they end, and exits.

    Raises:
        UserError: the target, or the device of that number, is not there.
        WorkerLost: in the scheduler, when a worker has died.
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
    join = join and "MS_ROLE" in os.environ
    if join:
        if device_id:
            raise UserError("device.id must be 0 with msrun: each worker takes its own device")
        device_id = int(os.environ.get("DEVICE_ID", 0))
    if target != "CPU" and device_id >= there[target]:
        raise UserError(f"device.id {device_id}: this machine has {there[target]} {target} devices")

    if target == "CPU":
        guard_onednn()
    _set_device(target, device_id)
    if target != "CPU":
        compute_exactly(target)  # before workers join: their communication heeds it too
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    device = Device(target, *_join_workers()) if join else Device(target)
    if seed is not None:
        ms.set_seed(seed)
        ms.manual_seed(seed)  # before 2.8 the first leaves the default generator alone
    place = f", worker {device.rank} of {device.workers}" if join else ""
    log.info("MindSpore %s on %s%s, %s mode%s", ms.__version__, target, why, mode, place)
    return device


def _set_device(target, device_id):
    import mindspore as ms

    try:
        ms.set_device(target, device_id)
    except RuntimeError as error:  # this process has computed before: it stays where it is
        if ms.get_context("device_target") != target or ms.get_context("device_id") != device_id:
            raise UserError(
                f"device.target {target}: this program has computed on another device already; "
                f"train before it translates, or call setup_device first"
            ) from error


def compute_exactly(target: str) -> None:
    """Make `Ascend` or `GPU` compute float32 in float32, and the same numbers every time.

    MindSpore's defaults are quicker: convolutions round their inputs to 11 bits (TF32, HF32), some
    Ascend products take float16, and sums of several threads depend on who comes first.
    """
    import mindspore as ms

    if ms.get_context("deterministic") != "ON":  # it refuses to be told twice
        ms.set_deterministic(True)
    if target == "GPU":
        gpu = ms.device_context.gpu
        gpu.op_precision.conv_allow_tf32(False)
        gpu.op_precision.matmul_allow_tf32(False)
        # cuDNN is not told by `set_deterministic`; its other algorithms may add up in any order.
        gpu.op_tuning.conv_dgrad_algo("algo_1")
        gpu.op_tuning.conv_wgrad_algo("algo_1")
    else:
        precision = ms.device_context.ascend.op_precision
        precision.precision_mode("must_keep_origin_dtype")
        precision.conv_allow_hf32(False)
        precision.matmul_allow_hf32(False)


def _join_workers():
    import mindspore as ms
    from mindspore import communication

    try:
        communication.init()
    except RuntimeError as error:  # also in the scheduler, which is no worker itself
        raise WorkerLost(str(error).strip().splitlines()[0]) from error
    rank, workers = communication.get_rank(), communication.get_group_size()
    if workers > 1:
        ms.set_auto_parallel_context(
            parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True
        )
    if rank:  # the first worker speaks for all; warnings are each one's own
        logging.getLogger("cyclegan_ms").setLevel(logging.WARNING)
    return rank, workers


def check_precision(amp: str, target: str) -> None:
    """Raise UserError if a target cannot compute in the precision `amp`: `O0`, `O2` or `bf16`."""
    if amp == "bf16" and target != "Ascend":
        raise UserError(
            f"device.amp bf16 is not available on {target}: MindSpore has bfloat16 convolutions "
            f"on Ascend only; use O0" + (" or O2" if target == "GPU" else "")
        )
    if amp == "O2" and target == "CPU":
        log.warning(
            "device.amp O2 gains nothing on CPU, which has no float16 convolutions: MindSpore "
            "rounds their inputs to float16 and computes in float32, slower than O0"
        )


def _count(target):
    import mindspore as ms

    backend = {"Ascend": ms.device_context.ascend, "GPU": ms.device_context.gpu}[target]
    with quiet_mindspore():
        return backend.device_count() if backend.is_available() else 0


@contextmanager
def quiet_mindspore() -> Iterator[None]:
    """Silence MindSpore's own log where it only alarms, such as over a device that is absent."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
