"""Nodes train for a step that waits for them; when it is gone for good, they save their state and end.

A launcher that is asked to end deletes its job. One that is killed cannot, and a cancelled run's pod may be. So it
writes a number into the handover every minute, and the leading node looks whether the number still changes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from sidlsg.runtime.errors import ContentError, SidlsgError
from sidlsg.storage.store import Store

ALIVE = "alive"
"""The object that holds the number."""
BEAT_S = 60.0
SILENCE_S = 15 * 60.0
"""How long the number may stay the same: longer than a step takes to be started again on another machine."""


@contextlib.contextmanager
def beating(store: Store, every: float = BEAT_S) -> Iterator[None]:
    """Show in a store that this process lives while the block runs; the first sign is there when it begins."""
    ended = threading.Event()
    store.write(ALIVE, _sign())

    def beat() -> None:
        while not ended.wait(every):
            # The next one may get through, and many are missed before somebody acts.
            with contextlib.suppress(SidlsgError):
                store.write(ALIVE, _sign())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def watched(
    store: Store,
    report: Callable[[str], None],
    end: Callable[[], None],
    every: float = BEAT_S,
    silence: float = SILENCE_S,
) -> Iterator[None]:
    """End this process's training when the other side has been silent for long, while the block runs.

    What a server does not answer says nothing of the other side, and is no silence.

    Args:
        store: where the other side shows that it lives.
        report: receives the reason.
        end: called then.
        every: seconds between two looks.
        silence: seconds without a change.
    """
    ended = threading.Event()

    def look() -> None:
        seen, since = None, time.monotonic()
        while not ended.wait(every):
            try:
                found = store.read(ALIVE)
            except ContentError:
                found = b""  # taken away: the step is at its end
            except SidlsgError:
                since = time.monotonic()
                continue
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since >= silence:
                report(f"the step that waits for this training was not heard of for {silence / 60:g} minutes: it ends")
                end()
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sign() -> bytes:
    return f"{os.getpid()} {time.monotonic_ns()}\n".encode()
