"""A Kubeflow Pipelines server: its address, the caller's token, and calls that are repeated after a fault."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError
from sidlsg.runtime.parsing import http_address, parse_json

try:
    import kfp_server_api
    import urllib3
    from kfp.client import ServiceAccountTokenVolumeCredentials
except ModuleNotFoundError as error:
    if error.name not in ("kfp", "kfp_server_api"):
        raise
    raise InputError("kfp is not installed, which talks to Kubeflow Pipelines; pip install 'sidlsg[kfp]'") from error

api = kfp_server_api
TIMEOUTS = (10.0, 60.0)
"""Seconds to connect, and to wait for data."""
PAGE = 100
"""Entries of one page of a list."""
TRY_AGAIN = (408, 425, 429)
"""Codes below 500 after which the same request may succeed later."""
CONFLICT, MISSING = 409, 404

T = TypeVar("T")


class Client(kfp_server_api.ApiClient):  # type: ignore[misc]
    """The generated client with time limits; it also refuses half an answer instead of reading it as an empty one."""

    def __init__(self, configuration: Any, timeouts: tuple[float, float], what: str) -> None:
        """`timeouts` are seconds to connect and to wait for data; `what` names the server in messages."""
        super().__init__(configuration)
        self._timeouts, self._what = timeouts, what

    def call_api(self, *arguments: Any, **named: Any) -> Any:
        """Call as the generated client does, with its two limits and one of the whole."""
        named["_request_timeout"] = named.get("_request_timeout") or self._timeouts
        with deadline(sum(self._timeouts), self._what):
            return super().call_api(*arguments, **named)

    def deserialize(self, response: Any, response_type: Any) -> Any:
        """Read an answer.

        Raises:
            ValueError: it is not a JSON object.
        """
        if not isinstance(parse_json(response.data), dict):
            raise ValueError("not a JSON object")
        return super().deserialize(response, response_type)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server's address and at most one way to sign in."""

    host: str
    """Address of the server or of its web page, http(s)://…"""
    namespace: str = ""
    """On a server with several users; empty for a server without."""
    token_env: str = ""
    """Environment variable that holds a token."""
    token_file: Path | None = None
    """File that holds a token, read for every request."""
    service_account: bool = False
    """Use the token that Kubernetes mounts for Kubeflow Pipelines."""
    timeouts: tuple[float, float] = TIMEOUTS
    """Seconds to connect, and to wait for data."""

    def __post_init__(self) -> None:
        parts = http_address(self.host)
        if parts is None:
            raise InputError(f"host {self.shown!r} is not an address; give one such as http://ml-pipeline:8888")
        if "@" in parts.netloc:
            raise InputError("the host holds a user or a password; leave it out, and give a token by file or variable")
        if sum([bool(self.token_env), self.token_file is not None, self.service_account]) > 1:
            raise InputError(
                "several ways to sign in were given; give one of --token-env, --token-file, --service-account, or none"
            )
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

    def client(self) -> Client:
        """The generated client, signed in."""
        configuration = api.Configuration()
        configuration.host = self.host.rstrip("/")
        # The client cannot know which requests may be repeated; it only follows redirects.
        configuration.retries = urllib3.Retry(total=3, connect=0, read=0, status=0, other=0, redirect=3)
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


@dataclass(frozen=True, kw_only=True)
class ServerTimeouts:
    """How long a call is repeated, in seconds."""

    total: float = 120.0
    first: float = 0.5
    """Pause before the second attempt; doubled for each further one."""
    longest: float = 15.0
    """Longest pause."""


class PipelinesServer:
    """The services of one server, each call of which is repeated after a fault."""

    def __init__(self, connection: Connection, patience: ServerTimeouts | None = None) -> None:
        """Nothing is sent yet."""
        client = connection.client()
        self.connection = connection
        self.runs = api.RunServiceApi(client)
        self.experiments = api.ExperimentServiceApi(client)
        self.pipelines = api.PipelineServiceApi(client)
        self.uploads = api.PipelineUploadServiceApi(client)
        self.recurring = api.RecurringRunServiceApi(client)
        self._health = api.HealthzServiceApi(client)
        self._patience = patience or ServerTimeouts()
        self._name = f"Kubeflow Pipelines at {connection.shown}"

    def reach(self) -> None:
        """Check that the server answers."""
        self.ask("answer", self._health.healthz_service_get_healthz)

    def ask(self, what: str, attempt: Callable[[], T], *, conflicts: bool = False) -> T:
        """Call until it works.

        Args:
            what: such as `list runs`, for messages.
            attempt: may be repeated.
            conflicts: also repeat after "exists already", since `attempt` looks before it makes.

        Raises:
            InputError: the server refused it.
            StorageError: faults lasted too long.
        """
        until = time.monotonic() + self._patience.total
        delay = self._patience.first
        while True:
            try:
                return attempt()
            except SidlsgError:
                raise
            except Exception as error:  # the client has no common base for what can go wrong
                reason = self._fault(error, what, conflicts)
                wait = delay * random.uniform(0.5, 1.0)
                if time.monotonic() + wait > until:
                    raise StorageError(
                        f"{self._name} did not {what} ({reason}); check that it runs and is the right address, and "
                        "give the same command again"
                    ) from error
            time.sleep(wait)
            delay = min(2 * delay, self._patience.longest)

    def once(self, what: str, find: Callable[[], T | None], create: Callable[[], T]) -> T:
        """Find something, or make it; each attempt looks first, as a create whose answer was lost may have worked."""

        def attempt() -> T:
            found = find()
            return create() if found is None else found

        return self.ask(what, attempt, conflicts=True)

    def remove(self, what: str, delete: Callable[[], Any]) -> None:
        """Delete something, which may be missing."""

        def attempt() -> None:
            try:
                delete()
            except api.ApiException as error:
                if error.status != MISSING:
                    raise

        self.ask(what, attempt)

    def find_id(self, listed: Callable[..., Any], entries: str, id_name: str, name: str) -> str | None:
        """The id of the entry with a name in this namespace's list, without a retry; None if there is none."""
        namespace = {"namespace": self.connection.namespace} if self.connection.namespace else {}
        found = pages(listed, entries, filter=named(name), **namespace)
        return next((str(getattr(each, id_name)) for each in found if each.display_name == name), None)

    def _fault(self, error: Exception, what: str, conflicts: bool) -> str:
        """The name of a fault after which a request is repeated; other errors are raised."""
        if isinstance(error, api.ApiException) and error.status:
            if error.status >= 500 or error.status in TRY_AGAIN or (conflicts and error.status == CONFLICT):
                return f"HTTP {error.status}"
            refusal = f"{self._name} refused to {what} (HTTP {error.status}{_message(error)})"
            if error.status in (401, 403):
                refusal += (
                    "; give a token that may, by --token-env, --token-file or --service-account, and the right "
                    "--namespace"
                )
            raise InputError(refusal) from error
        if isinstance(error, api.ApiException):  # only TLS errors have no status
            raise InputError(
                f"{self._name} has a certificate that is not trusted; name its CA in SSL_CERT_FILE"
            ) from error
        if isinstance(error, urllib3.exceptions.HTTPError):
            cause = getattr(error, "reason", None) or error
            return type(cause).__name__
        if isinstance(error, ValueError) and not isinstance(error, api.ApiValueError):
            return "an answer that is not JSON"
        raise error


def pages(call: Callable[..., Any], entries: str, **arguments: Any) -> list[Any]:
    """The entries of all pages of a list."""
    found: list[Any] = []
    token = ""
    while True:
        answer = call(page_token=token, page_size=PAGE, **arguments)
        found += getattr(answer, entries) or []
        token = answer.next_page_token or ""
        if not token:
            return found


def named(name: str) -> str:
    """A list's filter for entries with a name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _message(error: Any) -> str:
    try:
        answer = parse_json(error.body)
        message = answer.get("error_message") or answer.get("message") or answer.get("error")
    except (ValueError, TypeError, AttributeError):
        message = ""
    return f": {str(message)[:300]}" if message else ""
