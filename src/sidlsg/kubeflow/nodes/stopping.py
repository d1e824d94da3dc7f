"""SIGTERM to the step that waits for nodes: whatever it is doing, it stops, and cleans up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from sidlsg.runtime.errors import StoppedError


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise in the block at once when the process is asked to end; a second request does not disturb the first's work.

    Only a main thread can.

    Raises:
        StoppedError: the process was asked to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminated(_: int, __: FrameType | None) -> None:
        undisturbed()
        raise StoppedError(
            "asked to end: the nodes were asked to save their state and end; the same step again goes on from there"
        )

    earlier: Any = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def undisturbed() -> None:
    """Let no request to end disturb what follows: it is the end. Until the surrounding `stoppable` is left."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
