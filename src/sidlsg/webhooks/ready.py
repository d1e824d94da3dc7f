"""Whether the service has what it needs, asked of the servers once for all who want to know at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import SidlsgError

TOTAL_S = 15.0
"""Seconds after which an answer is given, with or without the servers'."""
CHECK_S = 5.0
"""Seconds that one server has."""
_FRESH_S = 5.0
"""How long an answer is good for."""
_MOST = 32
"""Most who may wait for an answer at once."""


class Readiness:
    """Runs checks, one round at a time, in a thread that nothing else needs."""

    def __init__(self, checks: Mapping[str, Callable[[], object]]) -> None:
        """Args:
        checks: by name; each raises an error where something is missing.
        """
        self._checks = checks
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ready")
        self._round: asyncio.Future[dict[str, str]] | None = None
        self._began = 0.0
        self._waiting = 0

    async def missing(self) -> dict[str, str]:
        """What is not ready, and why; empty where all is."""
        if self._waiting >= _MOST:
            return {"checks": f"{self._waiting} others wait for their answer"}
        now = time.monotonic()
        if self._round is None or (self._round.done() and now - self._began > _FRESH_S):
            self._began = now
            self._round = asyncio.get_running_loop().run_in_executor(self._thread, self._check)
        self._waiting += 1
        try:
            # Shielded: it goes on for those who ask next.
            return await asyncio.wait_for(asyncio.shield(self._round), self._began + TOTAL_S - now)
        except TimeoutError:
            return {"checks": f"no answer within {TOTAL_S:g} s"}
        finally:
            self._waiting -= 1

    def _check(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, check in self._checks.items():
            try:
                with deadline(CHECK_S, name):
                    check()
            except SidlsgError as error:
                found[name] = str(error)
            except Exception as error:  # a full disk, a locked file
                found[name] = type(error).__name__
        return found
