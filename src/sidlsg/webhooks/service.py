"""The service: the web application and the worker, until the process is asked to end."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sidlsg.kubeflow.server.runs import Kubeflow
from sidlsg.registry.connection import connect
from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.storage.files import folder_lock
from sidlsg.webhooks.ledger import FILE, Ledger
from sidlsg.webhooks.receiver import Limits, Receiver, application, web_server
from sidlsg.webhooks.rules import Table
from sidlsg.webhooks.telemetry import WebhookMetrics, log, log_libraries
from sidlsg.webhooks.worker import Worker

TOTAL_S = 15.0
"""Longest time until an answer, in seconds."""
CHECK_S = 5.0
"""Longest time of one check, in seconds."""
_FRESH_S = 5.0
"""How long an answer is reused, in seconds."""
_MOST = 32
"""Maximum number of callers that wait for an answer."""


class Readiness:
    """Runs checks, one round at a time, in its own thread."""

    def __init__(self, checks: Mapping[str, Callable[[], object]]) -> None:
        """`checks` by name; each raises an error where something is missing."""
        self._checks = checks
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ready")
        self._round: asyncio.Future[dict[str, str]] | None = None
        self._began = 0.0
        self._waiting = 0

    async def missing(self) -> dict[str, str]:
        """What is not ready, and why; empty if everything is."""
        if self._waiting >= _MOST:
            return {"checks": f"{self._waiting} others wait for their answer"}
        now = time.monotonic()
        if self._round is None or (self._round.done() and now - self._began > _FRESH_S):
            self._began = now
            self._round = asyncio.get_running_loop().run_in_executor(self._thread, self._check)
        self._waiting += 1
        try:
            # Shielded: the round continues for the next callers.
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


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service and its options."""

    table: Table
    folder: Path
    """For its database; one service at a time."""
    runs: Kubeflow
    tracking_uri: str
    secrets: Sequence[str]
    address: str = "127.0.0.1"
    port: int = 8080
    poll_s: float = 60.0
    limits: Limits = field(default_factory=Limits)
    dry_run: bool = False
    """Log what would be done, and store nothing."""

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Raises:
            InputError: another service uses the folder, the port is taken, or MLflow cannot be reached at the start.
        """
        log_libraries()
        with ExitStack() as stack:
            folder = self.folder
            if self.dry_run:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder, f"another service uses {folder}"))
            ledger, metrics = Ledger(folder / FILE), WebhookMetrics()
            worker = Worker(
                self.table, ledger, self.runs, self.tracking_uri, metrics, self.poll_s, dry_run=self.dry_run
            )
            receiver = Receiver(ledger, self.secrets, metrics, self.limits, worker.wake)
            readiness = Readiness(
                {
                    "database": lambda: ledger.note("ready", str(time.time())),
                    "mlflow": lambda: connect(self.tracking_uri),
                    "kubeflow": self.runs.ready,
                }
            )
            app = application(receiver, metrics, readiness.missing, worker.failing)
            server = web_server(app, self.address, self.port)
            # uvicorn shuts down, and then raises the signal again.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            worker.begin()
            log("serving", address=self.address, port=self.port, dry_run=self.dry_run)
            try:
                server.run()
            except SystemExit as error:
                if not error.code:
                    return
                # uvicorn exits so if it cannot listen.
                raise InputError(f"port {self.port} of {self.address} cannot be listened on; give another") from error
            finally:
                worker.end()
                log("ended")
