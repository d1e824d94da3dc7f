"""Opens an MLflow store or server, and says plainly when that does not work."""

from __future__ import annotations

import logging
import os
import ssl
import urllib.request
from collections.abc import Callable
from functools import wraps
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sidlsg.registry.address import ALLOWED, SERVERS, check_address, shown, sqlite_file
from sidlsg.runtime.deadline import CALL_S, deadline
from sidlsg.runtime.errors import InputError, first_line

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
        client = (_Timed if served else MlflowClient)(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        with deadline(_OPEN_S, server_at(tracking_uri)):
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = first_line(error)
        raise InputError(f"MLflow cannot open {shown(tracking_uri)} ({reason}); {ALLOWED}") from error
    return client


def server_at(tracking_uri: str) -> str:
    """What messages call the server of an address."""
    return f"the MLflow server at {shown(tracking_uri)}"


class _Timed(MlflowClient):  # type: ignore[misc]  # MLflow has no types here
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
