"""Where a Kubeflow Pipelines server is, and how to prove who calls."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sidlsg.runtime.errors import InputError, SidlsgError, StorageError
from sidlsg.runtime.parsing import parse_json

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


T = TypeVar("T")

PAGE = 100
"""Entries of one page of a list."""
TRY_AGAIN = (408, 425, 429)
"""Codes below 500 that say that the same request may work later."""
CONFLICT = 409
MISSING = 404


@dataclass(frozen=True, kw_only=True)
class ServerTimeouts:
    """How long faults are borne, in seconds."""

    total: float = 120.0
    first: float = 0.5
    """Before the second attempt; doubled for each further one."""
    longest: float = 15.0


class PipelinesServer:
    """The services of one server, each call of which is repeated after a fault."""

    def __init__(self, connection: Connection, patience: ServerTimeouts | None = None) -> None:
        """Nothing is sent yet.

        Raises:
            InputError: kfp is not installed, or a token cannot be read.
        """
        from sidlsg.kubeflow.server.client import api

        client = connection.client()
        self.connection = connection
        self.api = api
        self.runs = api.RunServiceApi(client)
        self.experiments = api.ExperimentServiceApi(client)
        self.pipelines = api.PipelineServiceApi(client)
        self.uploads = api.PipelineUploadServiceApi(client)
        self.recurring = api.RecurringRunServiceApi(client)
        self.health = api.HealthzServiceApi(client)
        self._patience = patience or ServerTimeouts()

    def reach(self) -> None:
        """Make sure that the server answers.

        Raises:
            StorageError: it does not.
        """
        self.ask("answer", self.health.healthz_service_get_healthz)

    def ask(self, what: str, attempt: Callable[[], T], *, conflicts: bool = False) -> T:
        """Do something that may be repeated, until it works.

        Args:
            what: such as `list runs`, for messages.
            attempt: everything that one attempt does.
            conflicts: "exists already" is a reason to try again, as `attempt` looks before it makes.

        Raises:
            InputError: the server refused it.
            StorageError: faults went on for longer than patience allows.
        """
        deadline = time.monotonic() + self._patience.total
        delay = self._patience.first
        while True:
            try:
                return attempt()
            except SidlsgError:
                raise
            except Exception as error:  # the client has no common base for what can go wrong
                reason = self._fault(error, what, conflicts)
                wait = delay * random.uniform(0.5, 1.0)
                if time.monotonic() + wait > deadline:
                    raise StorageError(
                        f"Kubeflow Pipelines at {self.connection.shown} did not {what} ({reason}); look whether it "
                        "runs and is the right address, and give the same command again"
                    ) from error
            time.sleep(wait)
            delay = min(2 * delay, self._patience.longest)

    def once(self, what: str, find: Callable[[], T | None], create: Callable[[], T]) -> T:
        """Find something, or make it; each attempt looks first, as a create whose answer was lost may have worked."""

        def attempt() -> T:
            found = find()
            return create() if found is None else found

        return self.ask(what, attempt, conflicts=True)

    def gone(self, what: str, delete: Callable[[], Any]) -> None:
        """Delete something; what is missing is deleted."""

        def attempt() -> None:
            try:
                delete()
            except self.api.ApiException as error:
                if error.status != MISSING:
                    raise

        self.ask(what, attempt)

    def _fault(self, error: Exception, what: str, conflicts: bool) -> str:
        """What a fault is called; everything else is raised."""
        from sidlsg.kubeflow.server.client import urllib3

        where = f"Kubeflow Pipelines at {self.connection.shown}"
        if isinstance(error, self.api.ApiException) and error.status:
            if error.status >= 500 or error.status in TRY_AGAIN or (conflicts and error.status == CONFLICT):
                return f"HTTP {error.status}"
            said = _said(error)
            if error.status in (401, 403):
                raise InputError(
                    f"{where} refused to {what} (HTTP {error.status}{said}); give a token that may, by --token-env, "
                    "--token-file or --service-account, and the right --namespace"
                ) from error
            raise InputError(f"{where} refused to {what} (HTTP {error.status}{said})") from error
        if isinstance(error, self.api.ApiException):  # only TLS comes without a status
            raise InputError(f"{where} has a certificate that is not trusted; name its CA in SSL_CERT_FILE") from error
        if isinstance(error, urllib3.exceptions.HTTPError):
            cause = getattr(error, "reason", None) or error
            return type(cause).__name__
        if isinstance(error, ValueError) and not isinstance(error, self.api.ApiValueError):
            return "an answer that is not JSON"
        raise error


def pages(call: Callable[..., Any], entries: str, **arguments: Any) -> list[Any]:
    """Everything that a list has, through all its pages."""
    found: list[Any] = []
    token = ""
    while True:
        answer = call(page_token=token, page_size=PAGE, **arguments)
        found += getattr(answer, entries) or []
        token = answer.next_page_token or ""
        if not token:
            return found


def named(name: str) -> str:
    """A list's filter: entries of one name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _said(error: Any) -> str:
    try:
        answer = parse_json(error.body)
        message = answer.get("error_message") or answer.get("message") or answer.get("error")
    except (ValueError, TypeError, AttributeError):
        message = ""
    return f": {str(message)[:300]}" if message else ""
