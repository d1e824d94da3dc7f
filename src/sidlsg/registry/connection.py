"""Opens an MLflow store or server, and turns MLflow's errors into the project's."""

from __future__ import annotations

import inspect
import json
import logging
import os
import ssl
import time
import urllib.request
from collections.abc import Callable
from functools import partial, wraps
from http.client import HTTPException
from typing import Any, ParamSpec, TypeVar
from urllib.error import HTTPError

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from requests import RequestException  # type: ignore[import-untyped]  # MLflow's, and without types
from requests.exceptions import RetryError  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError
from urllib3.exceptions import MaxRetryError

from sidlsg.registry.address import ALLOWED, SERVERS, check_address, shown, sqlite_file
from sidlsg.runtime.deadline import CALL_S, deadline
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError, first_line
from sidlsg.runtime.provenance import remark

PROBE_SECONDS = 10
"""Seconds for a server's first answer."""
_OPEN_S = 60.0
"""Seconds for the first answer that needs its database."""
_TRANSFERS = {"log_artifact", "download_artifacts", "log_image", "log_table"}
_TRANSFER_S = 6 * 3600.0
"""Seconds for a call that transfers files, whose size MLflow does not report beforehand."""
EXISTS, MISSING = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"
"""MLflow's error codes."""


def connect(tracking_uri: str, *, create: bool = False) -> MlflowClient:
    """A client for the experiments and the model registry of one MLflow.

    Args:
        tracking_uri: `sqlite:///<file>` for a store of one machine, `http(s)://…` for a server.
        create: create a SQLite store that does not exist yet; without it that is an error.

    Raises:
        InputError: the URI is of another kind, or nothing answers there.
        StorageError: a server does not answer in full in time.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    check_address(tracking_uri)
    is_server = tracking_uri.startswith(SERVERS)
    if is_server:
        _probe(tracking_uri)
    else:
        file = sqlite_file(tracking_uri)
        if not file.exists() and not create:
            raise InputError(f"no MLflow store at {file}; register a student there first, or {ALLOWED}")
        if not file.parent.is_dir():
            if not create or file.parent.exists():
                raise InputError(f"{file.parent} is not a folder, so {shown(tracking_uri)} cannot be opened; {ALLOWED}")
            file.parent.mkdir(parents=True)
        if not file.exists():
            # Standard output may hold a record.
            remark(f"{file} is a new MLflow store")
    try:
        client = (_TimedClient if is_server else MlflowClient)(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        with deadline(_OPEN_S, server_at(tracking_uri)):
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise InputError(f"MLflow cannot open {shown(tracking_uri)} ({first_line(error)}); {ALLOWED}") from error
    return client


def server_at(tracking_uri: str) -> str:
    """The server's name in messages."""
    return f"the MLflow server at {shown(tracking_uri)}"


class _TimedClient(MlflowClient):  # type: ignore[misc]  # MLflow has no types here
    """MLflow's client with a deadline for each call, however slowly an answer arrives."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return found if name.startswith("_") or not callable(found) else partial(_timed, self, name, found)


def _timed(client: MlflowClient, name: str, call: Callable[..., Any], /, *given: Any, **named: Any) -> Any:
    moves_files = name in _TRANSFERS
    with deadline(_TRANSFER_S if moves_files else CALL_S, server_at(client.tracking_uri), all_threads=moves_files):
        return call(*given, **named)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment of that name, created if there is none.

    A SQLite store keeps its artifacts in `artifacts/` beside the database file; a server has its own location.

    Raises:
        InputError: the experiment was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        is_server = client.tracking_uri.startswith(SERVERS)
        location = None if is_server else (sqlite_file(client.tracking_uri).parent / "artifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != EXISTS:
                raise
        found = client.get_experiment_by_name(name)  # another process created it just now
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} was deleted; restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}) or register under another name"
        )
    return str(found.experiment_id)


def _probe(address: str) -> None:
    # MLflow's own client would retry for two minutes where nothing listens.
    try:
        with deadline(PROBE_SECONDS, server_at(address)):
            urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=PROBE_SECONDS).close()
    except HTTPError:
        pass  # an answer; MLflow's client reports what it means
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        # MLflow has its own certificate settings, so a refused certificate does not decide.
        if not isinstance(reason, ssl.SSLError):
            raise InputError(f"no answer from the MLflow server at {shown(address)} ({reason}); {ALLOWED}") from error


P = ParamSpec("P")
T = TypeVar("T")

TRIES = 4
PAUSE_S = 1.0
"""Seconds before the second try; doubled before each further one."""
_REFUSED = {"INVALID_PARAMETER_VALUE", MISSING, "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST"}
_LONGEST = 300
_RESUMES = "nothing is half done that others see: look at the server, and run the same command again"
_MAYBE_DONE = "it may have been done all the same: look at the model's aliases before you run it again"


def explained(stage: Callable[P, T]) -> Callable[P, T]:
    """Retry a repeatable function with a parameter `tracking_uri`, and raise only the project's errors.

    MLflow's client retries a request without an answer by itself, but not one whose answer broke off.

    Raises:
        InputError: MLflow refuses the request.
        StorageError: MLflow or its artifact store is away, busy or broken; the same call again resumes.
    """
    return _explained(stage, TRIES, _RESUMES)


def explained_once(stage: Callable[P, T]) -> Callable[P, T]:
    """The same without retries, for a function that does something else when it is called again."""
    return _explained(stage, 1, _MAYBE_DONE)


def _explained(stage: Callable[P, T], tries: int, advice: str) -> Callable[P, T]:
    signature = inspect.signature(stage)

    @wraps(stage)
    def called(*given: P.args, **named: P.kwargs) -> T:
        for number in range(1, tries + 1):
            try:
                return stage(*given, **named)
            except (MlflowException, RequestException, json.JSONDecodeError) as error:
                explanation = _explanation(error, signature.bind(*given, **named).arguments["tracking_uri"], advice)
                if number == tries or isinstance(explanation, InputError) or _was_retried(error):
                    raise explanation from error
                time.sleep(PAUSE_S * 2 ** (number - 1))
        raise AssertionError("the last try returns or raises")

    return called


def _explanation(error: Exception, tracking_uri: str, advice: str) -> SidlsgError:
    reason, where = first_line(error), shown(tracking_uri)
    reason = reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "…"
    if isinstance(error, RestException) and error.error_code in _REFUSED:
        return InputError(f"MLflow at {where} refuses it: {reason}")
    return StorageError(f"MLflow at {where} did not do what it was asked ({reason}); {advice}")


def _was_retried(error: BaseException) -> bool:
    """Whether MLflow's client has retried for minutes already."""
    cause: BaseException | None = error
    while cause is not None:
        if any(isinstance(found, MaxRetryError | RetryError) for found in (cause, *cause.args)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
