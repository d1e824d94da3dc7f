"""The machine: CPUs, memory and devices.

Functions import torch themselves: it takes seconds, and every step of a pipeline calls `require_gpus`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import GPUS_VARIABLE

if TYPE_CHECKING:
    import torch

SMALL = 100_000_000
"""Bytes of weights below which a network runs faster on one thread."""


_CGROUP = Path("/sys/fs/cgroup")
"""What a container sees of its control group."""


def cpu_quota(cgroup: Path = _CGROUP) -> int:
    """CPUs that this process may use: its affinity, limited by the container's quota."""
    cpus = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # versions 2 and 1
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in files).split()
            if quota not in ("max", "-1"):
                cpus = min(cpus, max(1, int(quota) // int(period)))
        except (OSError, ValueError):
            continue  # no such control group
    return cpus


def set_threads(threads: int = 0) -> int:
    """Let torch use so many threads, 0 for one a CPU, unless `OMP_NUM_THREADS` is set; returns the number in use."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or cpu_quota())
    return torch.get_num_threads()


def sampling_threads(student: Path) -> int:
    """The best `set_threads` for sampling one image at a time: 1 for a small network's folder, otherwise 0."""
    networks = (file for name in ("unet", "transformer") for file in (student / name).glob("*.safetensors"))
    return int(sum(file.stat().st_size for file in networks) < SMALL)


def best_device() -> torch.device:
    """The GPU, or the CPU where there is none."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def require_gpus() -> int:
    """The number of GPUs that a pipeline's step requested, 0 outside a cluster; raises InputError if it sees fewer."""
    asked = os.environ.get(GPUS_VARIABLE, "")
    if not asked:
        return 0
    if not (asked.isascii() and asked.isdecimal() and len(asked) < 5):
        raise InputError(f"{GPUS_VARIABLE} is {asked!r}; give the number of GPUs that the step asked for, or unset it")
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen < int(asked):
        build = f"is for CUDA {torch.version.cuda}" if torch.version.cuda else "is for CPUs"
        raise InputError(
            f"the step asked for {asked} GPUs and sees {seen} (this torch {build}); look at the node's driver and its "
            "device plugin, and at gpus, gpu_type and the image in the profile"
        )
    return int(asked)


def device_name(device: torch.device) -> str:
    """The device's name for records and reports."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Compute in full float32: no autocast, and no TF32, which torch allows in a GPU's convolutions by default."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


_CONTAINER_MEMORY = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Files of a control group's limit and use, and where it says how much of the use is cached files that can go; of
versions 2 and 1."""


def host_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP, processes: int | None = None
) -> int | None:
    """Free bytes for each of a run's processes on this machine, within the container's limit; None if unknown.

    `processes` is their number; by default torchrun's.
    """
    free = _amount(meminfo, "MemAvailable:", 1024)
    for limit, used, statistics, cached in _CONTAINER_MEMORY:
        try:
            left = int((cgroup / limit).read_text()) - int((cgroup / used).read_text())
        except (OSError, ValueError):
            continue  # no such control group, or no limit
        left += _amount(cgroup / statistics, cached) or 0
        free = left if free is None else min(free, left)
    if free is None:
        return None
    return max(0, free) // (processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _amount(file: Path, name: str, unit: int = 1) -> int | None:
    """A value of a file with a name and a number in each line; None on other systems."""
    try:
        rows = dict(line.split()[:2] for line in file.read_text().splitlines())
        return int(rows[name]) * unit
    except (OSError, ValueError, KeyError):
        return None
