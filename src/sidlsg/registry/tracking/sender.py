"""A queue to a server that may be away: whoever puts something in never waits, and nothing is lost but by its limit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sidlsg.runtime.errors import first_line

LIMIT = 10_000
"""Entries that are kept for a server that is away: some 20 MB of rows."""
AT_ONCE = 200
"""Entries that are sent together."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds before trying again after a failure: doubled each time."""

Entry = TypeVar("Entry")


class Sender(Generic[Entry]):
    """Sends entries in order, from a thread of its own.

    An entry leaves the queue when it was sent; one whose sending failed is sent again, after a pause. So what sends
    must be able to do the same again with the effect of once.
    """

    def __init__(
        self,
        send: Callable[[list[Entry]], None],
        report: Callable[[str], None],
        *,
        limit: int = LIMIT,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """Args:
        send: sends some entries, in that thread, or raises.
        report: receives a line when sending fails for the first time, and one when it works again.
        limit: entries to keep at most; more are left out.
        first_pause: seconds before the second try.
        """
        self._send, self._report, self._limit, self._first_pause = send, report, limit, first_pause
        self._entries: deque[Entry] = deque()
        self._left_out = 0
        self._closing_until: float | None = None
        self._changed = threading.Condition()
        # A daemon: a server that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Queue an entry; where the queue is full, it is left out."""
        with self._changed:
            if len(self._entries) >= self._limit:
                self._left_out += 1
                return
            self._entries.append(entry)
            self._changed.notify_all()

    def close(self, last: list[Entry], patience: float) -> int:
        """Send what is left, and stop.

        Args:
            last: entries that go in whatever the limit.
            patience: seconds for all of it.

        Returns:
            How many entries were not sent.
        """
        with self._changed:
            self._entries.extend(last)
            self._closing_until = time.monotonic() + patience
            self._changed.notify_all()
        self._thread.join(patience)
        with self._changed:
            return len(self._entries) + self._left_out

    def _work(self) -> None:
        pause = 0.0
        while batch := self._next(pause):
            try:
                self._send(batch)
            except Exception as error:  # whatever it is: what is sent is not worth the work that it tells of
                if not pause:
                    self._report(
                        f"MLflow takes nothing now ({first_line(error)}); "
                        "this goes on, and what it misses is sent later"
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
        """The next entries, when there are some and the pause is over; none when it is time to stop."""
        until = time.monotonic() + pause
        with self._changed:
            while self._closing_until is None:
                left = until - time.monotonic()
                if self._entries and left <= 0:
                    break
                self._changed.wait(left if self._entries else None)
            else:
                # The end is near, so the pauses are short; who waits in `close` may have given up.
                if pause:
                    self._changed.wait(self._first_pause)
                if time.monotonic() >= self._closing_until:
                    return []
            return [self._entries[i] for i in range(min(AT_ONCE, len(self._entries)))]
