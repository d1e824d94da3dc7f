"""Opens an MLflow store or server, and says plainly when that does not work."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import wraps
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

PROBE_SECONDS = 10
"""How long a server may take to answer at all."""
_OPEN_S = 60.0
"""How long it may take to answer the first question that needs its database."""
_TRANSFERS = {"log_artifact", "download_artifacts", "log_image", "log_table"}
_TRANSFER_S = 6 * 3600.0
"""Seconds of a call that moves files, of which MLflow does not say beforehand how large they are."""


def connect(tracking_uri: str, *, create: bool = False) -> MlflowClient:
    """A client for the experiments and the model registry at one place.

    Args:
        tracking_uri: `sqlite:///<file>` for a store of one machine, `http(s)://…` for a server.
        create: make a SQLite store that does not exist yet; without it that is an error.

    Raises:
        InputError: the address is of another kind, or nothing answers there.
        StorageError: a server does not answer in full in time.
    """
    _be_quiet()
    check_address(tracking_uri)
    served = tracking_uri.startswith(SERVERS)
    if served:
        _probe(tracking_uri)
    else:
        file = sqlite_file(tracking_uri)
        if not file.exists() and not create:
            raise InputError(f"no MLflow store at {file}; register a student there first, or {ALLOWED}")
        if not file.parent.is_dir():
            if not create or file.parent.exists():
                raise InputError(f"{file.parent} is not a folder, so {shown(tracking_uri)} cannot be opened; {ALLOWED}")
            file.parent.mkdir(parents=True)
    try:
        client = (_TimedClient if served else MlflowClient)(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        with deadline(_OPEN_S, server_at(tracking_uri)):
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = first_line(error)
        raise InputError(f"MLflow cannot open {shown(tracking_uri)} ({reason}); {ALLOWED}") from error
    return client


def server_at(tracking_uri: str) -> str:
    """What messages call the server of an address."""
    return f"the MLflow server at {shown(tracking_uri)}"


class _TimedClient(MlflowClient):  # type: ignore[misc]  # MLflow has no types here
    """MLflow's client, each of whose calls ends in time, however slowly an answer arrives."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found
        return self._timed(found, name in _TRANSFERS)

    def _timed(self, call: Callable[..., Any], transfers: bool) -> Callable[..., Any]:
        @wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            with deadline(_TRANSFER_S if transfers else CALL_S, server_at(self.tracking_uri), all_threads=transfers):
                return call(*given, **named)

        return timed


def experiment_id(client: MlflowClient, tracking_uri: str, name: str) -> str:
    """The experiment of that name, made if there is none.

    A SQLite store keeps its artifacts in `artifacts/` beside the database file; a server knows its own place.

    Raises:
        InputError: the experiment was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        local = tracking_uri.startswith("sqlite:")
        place = (sqlite_file(tracking_uri).parent / "artifacts").as_uri() if local else None
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)  # someone else made it just now
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} was deleted; restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}) or register under another name"
        )
    return str(found.experiment_id)


def _probe(address: str) -> None:
    # MLflow's own client would retry an address where nothing listens for two minutes.
    try:
        with (
            deadline(PROBE_SECONDS, server_at(address)),
            urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=PROBE_SECONDS),
        ):
            pass
    except HTTPError:
        pass  # an answer; what it means is MLflow's to say
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        # MLflow has certificate settings of its own, so a refused certificate is not the last word.
        if not isinstance(reason, ssl.SSLError):
            raise InputError(f"no answer from the MLflow server at {shown(address)} ({reason}); {ALLOWED}") from error


def _be_quiet() -> None:
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


P = ParamSpec("P")
T = TypeVar("T")

TRIES = 4
PAUSE_S = 1.0
"""Before the second try; before each further one twice as long."""
_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST"}
_LONGEST = 300
_GOES_ON = "nothing is half done that others see: look at the server, and run the same command again"
_MAYBE_DONE = "it may have been done all the same: look at the model's aliases before you run it again"


def explained(stage: Callable[P, T]) -> Callable[P, T]:
    """Let a stage with a parameter `tracking_uri` that can be repeated raise the project's errors alone.

    Of a broken connection it is told after some tries; MLflow's client by itself repeats a request that got no answer,
    and not one whose answer broke off. A stage that ends so has left nothing half done that others see: a version
    appears when it is complete, and an alias moves last.

    Raises:
        InputError: MLflow refuses what it was asked.
        StorageError: MLflow or its artifact store is away, busy or broken; the same call again goes on.
    """
    return _told(stage, TRIES, _GOES_ON)


def explained_once(stage: Callable[P, T]) -> Callable[P, T]:
    """The same for a stage that does something else when it is called again."""
    return _told(stage, 1, _MAYBE_DONE)


def meaning(error: Exception, place: str, advice: str) -> SidlsgError:
    """The project's error for one of MLflow's."""
    reason = first_line(error)
    reason = reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "…"
    if isinstance(error, RestException) and error.error_code in _REFUSED:
        return InputError(f"MLflow at {place} refuses it: {reason}")
    return StorageError(f"MLflow at {place} did not do what it was asked ({reason}); {advice}")


def _told(stage: Callable[P, T], tries: int, advice: str) -> Callable[P, T]:
    signature = inspect.signature(stage)

    @functools.wraps(stage)
    def called(*given: P.args, **named: P.kwargs) -> T:
        for number in range(1, tries + 1):
            try:
                return stage(*given, **named)
            except (MlflowException, RequestException, json.JSONDecodeError) as error:
                place = shown(str(signature.bind(*given, **named).arguments["tracking_uri"]))
                told = meaning(error, place, advice)
                # What MLflow's client has tried for minutes is not worth another few.
                if number == tries or isinstance(told, InputError) or _was_repeated(error):
                    raise told from error
                time.sleep(PAUSE_S * 2 ** (number - 1))
        raise AssertionError("the last try returns or raises")

    return called


def _was_repeated(error: BaseException) -> bool:
    return any(
        isinstance(found, MaxRetryError | RetryError) or any(isinstance(part, MaxRetryError) for part in found.args)
        for found in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
