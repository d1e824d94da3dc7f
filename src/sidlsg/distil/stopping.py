"""SIGTERM as a request: a machine that is taken away gives some seconds' notice, enough for a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopRequest:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.made = False
        self.signalled = False
        """Whether SIGTERM made it, and not this program itself."""

    def __call__(self) -> bool:
        """Whether it was made by now."""
        return self.made

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM as the request while the block runs; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def terminated(_: int, __: FrameType | None) -> None:
            self.made = self.signalled = True

        earlier: Any = signal.signal(signal.SIGTERM, terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, earlier)
