"""A really started `sidlsg triggers serve`, and deliveries to it as MLflow sends them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from forked import Program
from sidlsg.registry.server.process import free_port
from sidlsg.webhooks.receiver import signature_of

SECRET = "a secret of the tests, and of no other"
PATIENCE_S = 60.0


class Triggers:
    """One service's folder, table and port; it can be started, killed and started again."""

    def __init__(self, folder: Path, tracking_uri: str, kubeflow: str, table: str, environment: dict[str, str]) -> None:
        self.folder, self.port = folder, free_port()
        self.uri, self.kubeflow, self.environment = tracking_uri, kubeflow, environment
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.log = folder / "triggers.toml", folder / "log"
        self.file.write_text(table)
        self._process: Program | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self, name: str, *words: str) -> list[str]:
        """The words of a command of the service."""
        return ["triggers", name, *words]

    def start(self, *more: str) -> None:
        """Start it, and wait until it answers."""
        words = ("--file", str(self.file), "--folder", str(self.folder / "state"), "--tracking-uri", self.uri)
        words += ("--host", self.kubeflow, "--port", str(self.port), "--per-minute", "100000", *more)
        environment = {**os.environ, **self.environment, "SIDLSG_WEBHOOK_SECRET": SECRET}
        with self.log.open("ab") as log:
            self._process = Program(self.command("serve", *words), stdout=log, stderr=log, env=environment)
        wait_until(self.is_alive, f"the service does not answer: {self.told()[-2000:]}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_alive(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.told()[-3000:]
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/healthz", timeout=5).status == 200
        return False

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_S)

    def told(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log of one kind."""
        found = [json.loads(line) for line in self.told().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def metrics(self) -> str:
        return urllib.request.urlopen(f"{self.url}/metrics", timeout=10).read().decode()

    def send(self, delivery: str, body: bytes, *, secret: str = SECRET, age: float = 0.0, **headers: str) -> int:
        """Deliver; returns the answer's status."""
        stamp = str(int(time.time() - age))
        told = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp, "Content-Type": "application/json"}
        told["X-MLflow-Signature"] = signature_of(secret, delivery, stamp, body)
        request = urllib.request.Request(f"{self.url}/webhooks/mlflow", body, told | headers)
        try:
            return int(urllib.request.urlopen(request, timeout=30).status)
        except urllib.error.HTTPError as error:
            return error.code

    @contextlib.contextmanager
    def running(self, *more: str) -> Iterator[None]:
        self.start(*more)
        try:
            yield
        finally:
            if self._process is not None and self._process.poll() is None:
                self.end()


def created(model: str, version: str) -> bytes:
    """The body of MLflow's event of a new version."""
    data = {"name": model, "version": version, "source": "s", "run_id": None, "tags": {}, "description": None}
    return json.dumps({"entity": "model_version", "action": "created", "timestamp": "t", "data": data}).encode()


def wait_until(true: Callable[[], object], message: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, message
        time.sleep(0.1)
