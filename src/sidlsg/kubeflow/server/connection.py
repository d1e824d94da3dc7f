"""Where a Kubeflow Pipelines server is, and how to prove who calls."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sidlsg.runtime.errors import InputError

TIMEOUTS = (10.0, 60.0)
"""Seconds to connect, and to wait for data."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server and a way to be let in: at most one of the last three."""

    host: str
    """Address of the server or of its web page, http(s)://…"""
    namespace: str = ""
    """Of a server with several users; "" for a server without."""
    token_env: str = ""
    """Environment variable that holds a token."""
    token_file: Path | None = None
    """File that holds a token; read for every request, so that a token that changes is followed."""
    service_account: bool = False
    """Take the token that Kubernetes mounts for Kubeflow Pipelines."""
    timeouts: tuple[float, float] = TIMEOUTS
    """Seconds to connect, and to wait for data."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"host {self.shown!r} is not an address; give one such as http://ml-pipeline:8888")
        if parts.username is not None or parts.password is not None:
            raise InputError("the host holds a user or a password; leave it out, and give a token by file or variable")
        ways = [bool(self.token_env), self.token_file is not None, self.service_account]
        if sum(ways) > 1:
            raise InputError("several ways to sign in were given; give one of --token-env, --token-file, "
                             "--service-account, or none")  # fmt: skip
        if self.token_env and not os.environ.get(self.token_env, "").strip():
            raise InputError(f"the environment variable {self.token_env} holds no token; set it, or give --token-file")
        if self.token_file is not None:
            self._file_token()

    @property
    def shown(self) -> str:
        """Host and port, for messages."""
        return self.host.split("://")[-1].split("@")[-1].split("/")[0].split("?")[0]

    def run_link(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.host.rstrip('/')}/#/runs/details/{run_id}"

    def client(self) -> Any:
        """The generated client, signed in.

        Raises:
            InputError: kfp is not installed.
        """
        from sidlsg.kubeflow.server.client import Client, ServiceAccountTokenVolumeCredentials, api, once_only

        configuration = api.Configuration()
        configuration.host = self.host.rstrip("/")
        configuration.retries = once_only()
        if self.token_env or self.token_file is not None or self.service_account:
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.api_key["authorization"] = "none yet"
            configuration.refresh_api_key_hook = self._refresh
            if self.service_account:
                credentials = ServiceAccountTokenVolumeCredentials()
                try:
                    credentials.refresh_api_key_hook(configuration)
                except OSError as error:
                    raise InputError(
                        f"no service account token at {error.filename}; mount it as docs/kubeflow.md says, or sign in "
                        "in another way"
                    ) from error
                configuration.refresh_api_key_hook = credentials.refresh_api_key_hook
        return Client(configuration, self.timeouts, f"Kubeflow Pipelines at {self.shown}")

    def _refresh(self, configuration: Any) -> None:
        token = os.environ.get(self.token_env, "").strip() if self.token_env else self._file_token()
        configuration.api_key["authorization"] = token

    def _file_token(self) -> str:
        path = Path(str(self.token_file))
        try:
            token = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InputError(f"the token file {path} cannot be read: {reason}; give a file that holds one") from error
        if not token or len(token.split()) > 1:
            raise InputError(f"the token file {path} does not hold one token and nothing else")
        return token
