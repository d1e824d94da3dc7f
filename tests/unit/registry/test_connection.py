"""Connecting to MLflow, and its errors as users see them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from urllib3.exceptions import MaxRetryError

from services.dripping import Dripping
from sidlsg.registry import connection as module
from sidlsg.registry.connection import TRIES, connect, experiment_id, explained, explained_once
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError


def test_a_store_is_only_made_on_demand(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    with pytest.raises(InputError, match=r"no MLflow store at .*register a student there first"):
        connect(uri)
    assert not (tmp_path / "runs").exists()


def test_one_experiment_is_created_with_artifacts_next_to_the_database(tracking_uri: str):
    client = connect(tracking_uri, create=True)
    first = experiment_id(client, "an-experiment")
    assert experiment_id(client, "an-experiment") == first
    folder = Path(tracking_uri.removeprefix("sqlite:///")).parent
    assert client.get_experiment(first).artifact_location == (folder / "artifacts").as_uri()


def test_a_deleted_experiment_is_not_used(tracking_uri: str):
    client = connect(tracking_uri, create=True)
    client.delete_experiment(experiment_id(client, "deleted"))
    with pytest.raises(InputError, match="was deleted; restore it"):
        experiment_id(client, "deleted")


@pytest.mark.parametrize(
    "uri", ["mlruns", "", "file:///tmp/mlruns", "postgresql://user@host/mlflow", "sqlite://", "sqlite:///:memory:"]
)
def test_an_address_of_another_kind_is_refused(uri: str):
    with pytest.raises(InputError, match="give sqlite:///<file> or the http"):
        connect(uri, create=True)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 40)
    with pytest.raises(InputError, match="cannot open") as caught:
        connect(f"sqlite:///{tmp_path}/mlflow.db", create=True)
    assert "\n" not in str(caught.value)


def test_a_file_instead_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        connect(f"sqlite:///{tmp_path}/runs/mlflow.db", create=True)


def test_a_server_that_is_not_there_is_reported_at_once():
    with socket.socket() as taken:  # bound and not listening: nothing answers, and nobody else can take the port
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="no answer from the MLflow server"):
            connect(f"http://127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("scheme", ["postgresql", "nonsense:", "http"])
def test_a_password_in_the_address_is_not_shown(scheme: str):
    with pytest.raises(InputError) as caught:
        connect(f"{scheme}://me:secret@127.0.0.1:1/mlflow")
    assert "secret" not in str(caught.value)
    assert "…@127.0.0.1" in str(caught.value)


def test_a_server_of_another_kind_is_reported():
    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def do_POST(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), NotFound)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with pytest.raises(InputError, match="MLflow cannot open http"):
            connect(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("begins", [None, "", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"])
def test_a_server_that_hangs_or_whose_answer_drips_is_reported_in_time(
    monkeypatch: pytest.MonkeyPatch, begins: str | None
):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(module, "_OPEN_S", 0.5)
    with Dripping(begins) as server, pytest.raises(StorageError, match="did not answer in full within"):
        connect(server.address)


@pytest.mark.parametrize("name", ["get_run", "download_artifacts"])
def test_every_later_call_to_a_server_ends_in_time_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    monkeypatch.setattr(module, "CALL_S", 0.5)
    monkeypatch.setattr(module, "_TRANSFER_S", 0.5)
    given = {"get_run": ("run",), "download_artifacts": ("run", "path", str(tmp_path))}
    with Dripping("HTTP/1.1 200 OK\r\n") as server, pytest.raises(StorageError, match=r"in full within 0\.5 s"):
        getattr(module._TimedClient(server.address), name)(*given[name])


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MlflowException("API request failed\nwith a second line"), StorageError, "API request failed"),
        (requests.ConnectionError("reset"), StorageError, "run the same command again"),
        (json.JSONDecodeError("Expecting value", "", 0), StorageError, "nothing is half done"),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), InputError, "refuses it: "),
        (MlflowException("no such file", error_code=INVALID_PARAMETER_VALUE), StorageError, "no such file"),
        (MlflowException("x" * 1000), StorageError, "…"),
    ],
)
def test_errors_are_explained(
    error: Exception, kind: type[SidlsgError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)

    @explained
    def stage(number: int, tracking_uri: str) -> None:
        assert (number, tracking_uri[:4]) == (1, "http")
        raise error

    with pytest.raises(kind) as caught:
        stage(1, "http://ann:secret@mlflow:5000")
    message = str(caught.value)
    assert words in message
    assert "http://…@mlflow:5000" in message
    assert "secret" not in message
    assert "second line" not in message
    assert len(message) < 600


def test_the_projects_own_errors_pass() -> None:
    @explained
    def stage(tracking_uri: str) -> None:
        raise InputError(tracking_uri)

    with pytest.raises(InputError, match="as it is"):
        stage("as it is")


def broken(error: Exception, times: int) -> tuple[Callable[[str], str], list[str]]:
    """A stage that fails so often, and its calls."""
    calls: list[str] = []

    def stage(tracking_uri: str) -> str:
        calls.append(tracking_uri)
        if len(calls) <= times:
            raise error
        return "done"

    return stage, calls


def test_a_broken_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    stage, calls = broken(MlflowException("broke off"), TRIES - 1)
    assert explained(stage)("there") == "done"
    assert len(calls) == TRIES
    assert pauses == [1, 2, 4]
    stage, calls = broken(MlflowException("broke off"), TRIES)
    with pytest.raises(StorageError):
        explained(stage)("there")
    assert len(calls) == TRIES


def given_up() -> MlflowException:
    error = MlflowException("API request failed")
    error.__cause__ = requests.ConnectionError(MaxRetryError(None, "/"))  # type: ignore[arg-type]
    return error


def test_what_mlflow_repeated_is_not_repeated() -> None:
    stage, calls = broken(given_up(), 1)
    with pytest.raises(StorageError):
        explained(stage)("there")
    assert len(calls) == 1


def test_what_cannot_be_repeated_is_not() -> None:
    stage, calls = broken(MlflowException("broke off"), 1)
    with pytest.raises(StorageError, match="may have been done all the same"):
        explained_once(stage)("there")
    assert len(calls) == 1
