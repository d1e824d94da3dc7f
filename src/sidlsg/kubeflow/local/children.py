"""Ends the stages' processes with the run that started them, so that none keeps writing after it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE = 5.0
"""Seconds between asking a process to end and making it."""


@contextlib.contextmanager
def ending_with_this(scratch: Path, start_no_more: Callable[[], None]) -> Iterator[None]:
    """When the block ends by an error or a signal, end the stages' processes first.

    Args:
        scratch: the temporary folder of the run's processes, by which they are known.
        start_no_more: is called before that; stages that run in threads would start the next process else.
    """

    def end() -> None:
        start_no_more()
        end_stages(scratch)

    def ended(number: int, _: FrameType | None) -> None:
        # Whoever waits for a stage would go on waiting when this is raised, so the stage goes first.
        end()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    earlier: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # A program in the background of a shell is not to be interrupted, and stays so.
        heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) != signal.SIG_IGN]
        earlier = {sign: signal.signal(sign, ended) for sign in heard}
    try:
        yield
    except BaseException:
        end()
        raise
    finally:
        for sign, handler in earlier.items():
            signal.signal(sign, handler)


def end_stages(scratch: Path) -> None:
    """End every process that was started with this temporary folder in its environment, and wait until it is gone.

    A run that was killed leaves such processes to nobody, so they are not looked for among the children. A fork has
    the environment of the process that it is a fork of.
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
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]
