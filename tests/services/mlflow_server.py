"""An MLflow server of one process on this machine: a SQLite store and a folder, killed and started again at will."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
STARTS = 3
PATIENCE_S = 240.0
"""It imports much, and tests may share two processors with others."""


class MlflowServer:
    """One server with its own port, database and artifacts, in a folder that belongs to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """What clients take for a tracking URI."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers; after `kill`, on the same port with the same data."""
        chosen = bool(self.port)
        for _ in range(STARTS):
            if not chosen:
                self.port = free_port()
            if self._started():
                return
        raise RuntimeError(f"no MLflow server: {self._log().read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End the server and its workers as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # the group that `start` made
            self._process.wait(timeout=PATIENCE_S)
            self._process = None

    def __enter__(self) -> MlflowServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def _started(self) -> bool:
        # The scheme as SQLAlchemy has it: three slashes and an absolute path.
        options = {"host": HOST, "port": str(self.port), "workers": "1"}
        options |= {"backend-store-uri": f"sqlite:///{self.folder}/mlflow.db"}
        options |= {"artifacts-destination": str(self.folder / "artifacts")}
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server"),
                    *(word for name, value in options.items() for word in (f"--{name}", value)),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    # The program starts its workers by name.
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "HOME": str(self.folder),
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            if self._is_healthy():
                return True
            time.sleep(0.2)
        self.kill()
        return False

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _log(self) -> Path:
        return self.folder / "log"


def free_port() -> int:
    """A port that is free now; another process may take it before the server does, and then another is tried."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
