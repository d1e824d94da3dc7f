"""Connecting: stores that open, and one clear line for those that do not."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from services.dripping import Dripping
from sidlsg.registry import connection as module
from sidlsg.registry.connection import connect, experiment_id
from sidlsg.runtime.errors import InputError, StorageError


def test_a_store_is_only_made_on_demand(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    with pytest.raises(InputError, match=r"no MLflow store at .*register a student there first"):
        connect(uri)
    assert not (tmp_path / "runs").exists()


def test_the_experiment_is_made_once_beside_the_database(tracking_uri: str):
    client = connect(tracking_uri, create=True)
    first = experiment_id(client, tracking_uri, "an-experiment")
    assert experiment_id(client, tracking_uri, "an-experiment") == first
    folder = Path(tracking_uri.removeprefix("sqlite:///")).parent
    assert client.get_experiment(first).artifact_location == (folder / "artifacts").as_uri()


def test_a_deleted_experiment_is_not_used(tracking_uri: str):
    client = connect(tracking_uri, create=True)
    client.delete_experiment(experiment_id(client, tracking_uri, "deleted"))
    with pytest.raises(InputError, match="was deleted; restore it"):
        experiment_id(client, tracking_uri, "deleted")


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


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
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
    Thread(target=server.serve_forever, daemon=True).start()
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
