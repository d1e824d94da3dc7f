"""Talks to a Kubeflow Pipelines server: again after a fault, and never so that something is made twice."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sidlsg.kubeflow.server.connection import Connection
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError
from sidlsg.runtime.parsing import parse_json

T = TypeVar("T")

PAGE = 100
"""Entries of one page of a list."""
TRY_AGAIN = (408, 425, 429)
"""Codes below 500 that say that the same request may work later."""
CONFLICT = 409
MISSING = 404


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long faults are borne, in seconds."""

    total: float = 120.0
    first: float = 0.5
    """Before the second attempt; doubled for each further one."""
    longest: float = 15.0


class Server:
    """The services of one server, each call of which is repeated after a fault."""

    def __init__(self, connection: Connection, patience: Patience | None = None) -> None:
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
        self._patience = patience or Patience()

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
