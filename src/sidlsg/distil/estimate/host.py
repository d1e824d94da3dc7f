"""The host's memory: how much a process may still take."""

from __future__ import annotations

import os
from pathlib import Path


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
