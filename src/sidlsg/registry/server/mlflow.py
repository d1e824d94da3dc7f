"""The MLflow server: tracking and the model registry, on a database and an artifact store."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet

from sidlsg.registry.server.process import HOST, LocalServer
from sidlsg.runtime.errors import InputError


class MlflowServer(LocalServer):
    """One server of one worker, which also passes artifacts on: clients need no access to the artifact store."""

    NAME = "MLflow"
    # It imports much, and may share two CPUs with others.
    PATIENCE_S = 240.0

    def __init__(
        self, folder: Path, store: str = "", artifacts: str = "", access: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        """Take the server's folder and settings.

        Args:
            folder: of the server.
            store: SQLAlchemy URL of the database; by default a SQLite file in the folder.
            artifacts: a folder or `s3://` URI; by default a folder in the folder.
            access: environment variables for the artifact store.
            port: to listen on; by default a free one, chosen at the first start.

        Raises:
            InputError: the server runs on another port.
        """
        super().__init__(folder)
        # The scheme as SQLAlchemy has it: three slashes and an absolute path.
        self._store = store or f"sqlite:///{self.folder}/mlflow.db"
        self._artifacts = artifacts or str(self.folder / "artifacts")
        self._access = dict(access or {})
        if port and self.is_running and port != self.port:
            raise InputError(f"MLflow runs on port {self.port}, and not on {port}; stop it first")
        if port:
            self.state["ports"] = {"port": port}

    @property
    def address(self) -> str:
        """The tracking URI."""
        return f"http://{HOST}:{self.port}"

    def new_keys(self) -> dict[str, str]:
        """See `LocalServer`."""
        return {"webhook_key": Fernet.generate_key().decode()}

    def command(self) -> list[str]:
        """See `LocalServer`."""
        options = {"host": HOST, "port": str(self.port), "workers": "1", "artifacts-destination": self._artifacts}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [sys.executable, "-m", "mlflow", "server", *words]

    def environment(self) -> dict[str, str]:
        """See `LocalServer`."""
        inherited = super().environment()
        return {
            **inherited,
            **self._access,
            # It starts its workers by name.
            "PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}",
            # Not among the arguments, which every user of the machine can read.
            "MLFLOW_BACKEND_STORE_URI": self._store,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Saves seven processes.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # A new key would end the delivery of webhooks after a restart.
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": self.state["webhook_key"],
            # Their receiver is on this machine.
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            # By default a new webhook gets no events for a minute.
            "MLFLOW_WEBHOOK_CACHE_TTL": "1",
            "OMP_NUM_THREADS": "1",
        }

    def is_ready(self) -> bool:
        """See `LocalServer`."""
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
