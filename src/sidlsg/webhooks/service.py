"""The service: the web application and the worker, until the process is asked to end."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sidlsg.kubeflow.server.interface import PipelineRuns
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import alone_in
from sidlsg.webhooks.http import web_server
from sidlsg.webhooks.ledger import FILE, Ledger
from sidlsg.webhooks.metrics import Metrics
from sidlsg.webhooks.ready import Readiness
from sidlsg.webhooks.receiver import Limits, Receiver, application
from sidlsg.webhooks.rules import Table
from sidlsg.webhooks.telemetry import log, log_libraries
from sidlsg.webhooks.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a service is started with."""

    table: Table
    folder: Path
    """Of its database; one service at a time."""
    runs: PipelineRuns
    tracking_uri: str
    secrets: Sequence[str]
    address: str = "127.0.0.1"
    port: int = 8080
    poll_s: float = 60.0
    limits: Limits = field(default_factory=Limits)
    dry_run: bool = False
    """Say what would be done, and remember nothing."""

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
            stack.enter_context(alone_in(folder, f"another service uses {folder}"))
            ledger, metrics = Ledger(folder / FILE), Metrics()
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
            # uvicorn ends in order, and then raises the signal again.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            worker.begin()
            log("serving", address=self.address, port=self.port, dry_run=self.dry_run)
            try:
                server.run()
            except SystemExit as error:
                if not error.code:
                    return
                # uvicorn's way to say that it cannot listen
                raise InputError(f"port {self.port} of {self.address} cannot be listened on; give another") from error
            finally:
                worker.end()
                log("ended")
