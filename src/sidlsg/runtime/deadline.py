"""Deadlines of whole remote calls: a socket's own timeout starts again with each byte that arrives.

MLflow's client, boto3, Kubeflow's client and `urllib` all send through `http.client`, which raises an audit event
first. So a deadline knows the sockets of its calls, whatever the client, and shuts them down when the time is over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from sidlsg.runtime.errors import StorageError

CALL_S = 300.0
"""Seconds of a call without files, all attempts of its client included."""
SLOWEST = 50_000
"""Bytes a second of the slowest transfer that is allowed."""


@contextlib.contextmanager
def deadline(seconds: float, what: str, *, all_threads: bool = False) -> Iterator[None]:
    """End the HTTP requests of the block after so many seconds, even if a few bytes keep arriving.

    Only requests are ended, not other work. Of nested deadlines the earlier one counts.

    Args:
        seconds: for all requests of the block.
        what: the server's name in the message, such as `the MLflow server at http://mlflow:5000`.
        all_threads: also end requests of threads that start in the block, for clients that transfer files in threads.

    Raises:
        StorageError: the time is over; the block's result must not be used.
    """
    _listen()
    limit = _Limit(seconds, what, all_threads)
    timer = threading.Timer(seconds, limit.end)
    timer.daemon = True
    _limits.append(limit)
    timer.start()
    try:
        yield
    except Exception as error:
        if limit.is_over:
            raise limit.error() from error
        raise
    finally:
        timer.cancel()
        _limits.remove(limit)
    # A truncated answer without a length looks complete.
    if limit.is_over:
        raise limit.error()


def size_deadline(size: int) -> float:
    """Seconds for a transfer of so many bytes."""
    return CALL_S + size / SLOWEST


class _Limit:
    def __init__(self, seconds: float, what: str, all_threads: bool) -> None:
        self._seconds, self._what = seconds, what
        self._own, self._all_threads = threading.current_thread(), all_threads
        self._others = set(threading.enumerate()) if all_threads else set()
        self._until = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def error(self) -> StorageError:
        return StorageError(
            f"{self._what} did not answer in full within {self._seconds:g} s; look at its load and its network, and "
            "run the same command again"
        )

    def watch(self, used: socket.socket | None) -> None:
        """Add a request's socket; raises StorageError when the time is over, which also ends a client's retries."""
        thread = threading.current_thread()
        if used is None or (thread is not self._own and (not self._all_threads or thread in self._others)):
            return
        with self._lock:
            if self.is_over:
                raise self.error()
            if used not in self._sockets:
                self._sockets.append(used)

    def end(self) -> None:
        """Shut all sockets down, which ends every read."""
        with self._lock:
            for used in self._sockets:
                # A TLS socket's own method would drop its state under the reader. A TLS proxy's socket has no file
                # descriptor to shut down; its own timeout ends the read.
                with contextlib.suppress(OSError, TypeError):
                    socket.socket.shutdown(used, socket.SHUT_RDWR)


_limits: list[_Limit] = []


@cache
def _listen() -> None:
    sys.addaudithook(_heard)
    # A fork has no timers that would end its limits.
    os.register_at_fork(after_in_child=_limits.clear)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "http.client.send" and _limits:
        for limit in tuple(_limits):
            limit.watch(arguments[0].sock)
