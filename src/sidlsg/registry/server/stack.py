"""The servers together: MLflow on PostgreSQL, with artifacts on SeaweedFS."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path

from sidlsg.registry.server.mlflow import MlflowServer
from sidlsg.registry.server.postgres import Postgres
from sidlsg.registry.server.process import STATE, LocalServer
from sidlsg.registry.server.seaweedfs import SeaweedFS
from sidlsg.runtime.errors import SidlsgError
from sidlsg.storage.files import folder_lock, refuse_foreign

ARTIFACTS, DATA = "mlflow", "data"
"""Buckets: MLflow's own, and one for users' other data."""
_DATABASE, _POSTGRES = "mlflow", "postgres"
MARKER = f"{_POSTGRES}/{STATE}"
"""The file that makes a folder one of these servers."""


class Stack:
    """The servers of one folder."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Take the folder of the servers, and MLflow's port: by default its earlier one, or else a free one."""
        self.folder = folder.absolute()
        self._port = port
        refuse_foreign(self.folder, MARKER)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.postgres = Postgres(self.folder / _POSTGRES)
        self.s3 = SeaweedFS(self.folder / "s3")

    @cached_property
    def mlflow(self) -> MlflowServer:
        """The MLflow server; SidlsgError before the other two have ports."""
        if not (self.postgres.state.get("ports") and self.s3.state.get("ports")):
            raise SidlsgError(f"no servers were started in {self.folder}; `sidlsg services start` starts them")
        access = {**self.s3.client_environment(), "MLFLOW_S3_ENDPOINT_URL": self.s3.endpoint}
        store = self.postgres.url(_DATABASE)
        return MlflowServer(self.folder / "mlflow", store, f"s3://{ARTIFACTS}", access, self._port)

    def start(self) -> None:
        """Start the servers that do not run, and wait until all serve.

        Raises:
            InputError: a program is not installed.
            SidlsgError: a server does not start.
        """
        with folder_lock(self.folder, f"another process starts or stops the servers of {self.folder}"):
            self.postgres.start()
            self.postgres.require_database(_DATABASE)
            self.s3.start()
            for bucket in (ARTIFACTS, DATA):
                self.s3.require_bucket(bucket)
            self.mlflow.start()

    def stop(self) -> None:
        """Stop the servers, dependent ones first; their data stays."""
        with folder_lock(self.folder, f"another process starts or stops the servers of {self.folder}"):
            for server in self.servers():
                server.stop()

    def servers(self) -> list[LocalServer]:
        """The servers that were ever started, in the order in which they stop."""
        first: list[LocalServer] = [self.mlflow] if (self.folder / "mlflow").is_dir() else []
        return [*first, self.s3, self.postgres]

    def client_environment(self) -> dict[str, str]:
        """Environment variables of a process that uses the servers."""
        return {"MLFLOW_TRACKING_URI": self.mlflow.address, **self.s3.client_environment()}

    def exports(self) -> str:
        """The same as lines for a shell."""
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.client_environment().items())
