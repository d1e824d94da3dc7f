"""Ends the stages' processes with the run that started them, so that none writes on behind its back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE = 5.0
"""Seconds between asking a process to end and making it."""
_STAGE = b"kfp.dsl.executor_main"
"""In the command line of every process that runs a stage."""


@contextlib.contextmanager
def ending_with_this(scratch: Path) -> Iterator[None]:
    """When the block ends by an error or a signal, end the stages' processes first.

    Args:
        scratch: the temporary folder of the run's processes, by which they are known.
    """

    def terminated(number: int, _: FrameType | None) -> None:
        # Whoever waits for a stage would go on waiting when this is raised, so the stage goes first.
        end_stages(scratch)
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    earlier: Any = signal.signal(signal.SIGTERM, terminated) if main else None
    try:
        yield
    except BaseException:
        end_stages(scratch)
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, earlier)


def end_stages(scratch: Path) -> None:
    """End every process that runs a stage with this temporary folder, and wait until it is gone.

    A run that was killed leaves such processes to nobody, so they are not looked for among the children.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in _stages(scratch):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + PATIENCE
        while _stages(scratch) and time.monotonic() < deadline:
            time.sleep(0.05)


def _stages(scratch: Path) -> list[int]:
    mark = os.fsencode(f"TMPDIR={scratch}")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # A process may go while it is looked at, and others' may not be looked at.
        with contextlib.suppress(OSError):
            if _STAGE in (entry / "cmdline").read_bytes() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]
