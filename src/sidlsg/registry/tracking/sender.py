"""A queue to a server that may be away: `put` never waits, and entries are dropped only beyond the queue's limit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

from sidlsg.runtime.errors import first_line

LIMIT = 10_000
"""Entries that are kept for a server that is away: some 20 MB of rows."""
BATCH = 200
"""Entries that are sent together."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a retry, doubled with each."""

Entry = TypeVar("Entry")


class Sender(Generic[Entry]):
    """Sends entries in order, from its own thread.

    An entry leaves the queue when it was sent, and is sent again after a failure, so sending must be idempotent.
    """

    def __init__(
        self,
        send: Callable[[list[Entry]], None],
        report: Callable[[str], None],
        *,
        limit: int = LIMIT,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """Start the thread.

        Args:
            send: sends some entries, in the thread, or raises.
            report: receives a line when sending first fails, and one when it works again.
            limit: entries to keep at most; more are dropped.
            first_pause: seconds before the first retry.
        """
        self._send, self._report, self._limit, self._first_pause = send, report, limit, first_pause
        self._entries: deque[Entry] = deque()
        self._dropped = 0
        self._deadline: float | None = None
        self._changed = threading.Condition()
        # A daemon: a server that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Queue an entry; a full queue drops it."""
        with self._changed:
            if len(self._entries) >= self._limit:
                self._dropped += 1
                return
            self._entries.append(entry)
            self._changed.notify_all()

    def close(self, last: list[Entry], patience: float) -> int:
        """Send the rest and `last`, whatever the limit, within `patience` seconds; returns the entries not sent."""
        with self._changed:
            self._entries.extend(last)
            self._deadline = time.monotonic() + patience
            self._changed.notify_all()
        self._thread.join(patience)
        with self._changed:
            return len(self._entries) + self._dropped

    def _work(self) -> None:
        pause = 0.0
        while batch := self._next(pause):
            try:
                self._send(batch)
            except Exception as error:  # whatever it is, it must not stop the training
                if not pause:
                    self._report(
                        f"MLflow takes nothing now ({first_line(error)}); the training continues, and what MLflow "
                        "misses is sent later"
                    )
                pause = min(2 * pause, LONGEST_PAUSE) if pause else self._first_pause
                continue
            if pause:
                self._report("MLflow answers again")
            pause = 0.0
            with self._changed:
                for _ in batch:
                    self._entries.popleft()

    def _next(self, pause: float) -> list[Entry]:
        """The next entries, after the pause; none when it is time to stop."""
        with self._changed:
            if pause:
                self._changed.wait_for(lambda: self._deadline is not None, pause)
            self._changed.wait_for(lambda: self._entries or self._deadline is not None)
            if self._deadline is not None:
                # Pauses are short once `close` waits; it may have given up already.
                if pause:
                    self._changed.wait(self._first_pause)
                if time.monotonic() >= self._deadline:
                    return []
            return list(islice(self._entries, BATCH))
