"""SIGTERM as a request: a machine that is taken away gives some seconds' notice, enough for a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopRequest:
    """Whether training is to save its state and end."""

    def __init__(self) -> None:
        self.signalled = False
        """Whether SIGTERM came. Nothing takes it back: a machine that is taken away says so once."""
        self.slowed = False
        """Whether training has become so slow that the machine is to be measured again."""

    def __call__(self) -> bool:
        """Whether it is by now."""
        return self.signalled or self.slowed

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM as the request while the block runs; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def terminated(_: int, __: FrameType | None) -> None:
            self.signalled = True

        earlier: Any = signal.signal(signal.SIGTERM, terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, earlier)
