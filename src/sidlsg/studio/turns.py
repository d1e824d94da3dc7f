"""Turns on the device: one sampling at a time, so that its time is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock whose holder can lend it to those that go first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._first = 0
        """Number of those that go first and wait, or have the turn."""

    @contextmanager
    def taken(self, *, first: bool) -> Iterator[None]:
        """Wait for the turn, and have it; without `first`, also wait for all who go first."""
        with self._changed:
            self._first += first
            self._changed.wait_for(lambda: not self._taken and (first or not self._first))
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._first -= first
                self._taken = False
                self._changed.notify_all()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody who goes first waits."""
        return self._first > 0

    def lend(self) -> float:
        """Lend the turn to all who go first, and take it again; returns the seconds in between."""
        began = time.perf_counter()
        with self._changed:
            self._taken = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._taken and not self._first)
            self._taken = True
        return time.perf_counter() - began
