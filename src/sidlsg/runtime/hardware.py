"""The machine: how many threads to use, which device, and its name for records.

torch is imported by the functions that need it: it takes seconds, and every step of a pipeline calls `require_gpus`.
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
"""Bytes of weights: a smaller network runs faster on one thread."""


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may really use: its affinity, cut by the container's quota."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
        if quota != "max":
            cpus = min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no such control group: the affinity counts
    return cpus


def set_threads(threads: int = 0) -> int:
    """Let torch use as many threads as there are CPUs to use, unless `OMP_NUM_THREADS` says otherwise.

    Args:
        threads: how many; 0 for the CPUs' number.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or cpu_quota())
    return torch.get_num_threads()


def sampling_threads(unet: Path) -> int:
    """Threads that pay for sampling one image at a time: 1 for a small network, else 0 for all CPUs.

    Args:
        unet: folder of its weights.
    """
    return int(sum(file.stat().st_size for file in unet.glob("*.safetensors")) < SMALL)


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def require_gpus() -> int:
    """Check that a pipeline's step sees the GPUs that it asked the cluster for.

    Returns:
        How many it asked for; 0 where nothing says so.

    Raises:
        InputError: it sees fewer, or what it was told is no number.
    """
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
    """The device in words, for records and reports."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Float32 as it is on a CPU: neither autocast nor TF32, which torch allows in a GPU's convolutions by default."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def host_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup"), processes: int | None = None
) -> int | None:
    """Bytes that are free for this process: what the machine has, or its container allows, shared with its neighbours.

    Args:
        meminfo: the kernel's account.
        cgroup: the container's.
        processes: how many of a run are on this machine; by default what torchrun says.

    Returns:
        None where the system does not say.
    """
    free = _available(meminfo)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            used = int((cgroup / "memory.current").read_text())
            left = int(limit) - used
            free = left if free is None else min(free, left)
    except (OSError, ValueError):
        pass  # no such control group
    if free is None:
        return None
    return max(0, free) // (processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _available(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # another system
    return None
