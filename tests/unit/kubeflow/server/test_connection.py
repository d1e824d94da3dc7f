from __future__ import annotations

from pathlib import Path

import pytest

from services.dripping import Dripping
from sidlsg.kubeflow.server.connection import Connection, PipelinesServer
from sidlsg.runtime.errors import InputError, StorageError


@pytest.mark.parametrize("host", ["", "ml-pipeline", "ml-pipeline:8888", "ftp://ml-pipeline", "http://"])
def test_a_host_is_an_address(host: str) -> None:
    with pytest.raises(InputError, match="is not an address; give one such as http://ml-pipeline:8888"):
        Connection(host=host)


@pytest.mark.parametrize("host", ["http://me:secret@kfp", "https://secret@kfp/pipeline", "ftp://me:secret@kfp"])
def test_a_password_in_the_host_is_refused_and_not_shown(host: str) -> None:
    with pytest.raises(InputError) as caught:
        Connection(host=host)
    assert "secret" not in str(caught.value)


def test_a_link_goes_to_the_run() -> None:
    connection = Connection(host="https://kfp.example/pipeline/")
    assert connection.run_link("1") == "https://kfp.example/pipeline/#/runs/details/1"
    assert connection.shown == "kfp.example"


@pytest.mark.parametrize("content", [b"", b" \n", b"two tokens", b"\xff"])
def test_a_token_file_holds_one_token(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputError, match=r"the token file .*(does not hold one token|cannot be read: not text)"):
        Connection(host="http://kfp", token_file=tmp_path / "token")


def test_a_variable_without_a_token_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_TOKEN", " ")
    with pytest.raises(InputError, match="the environment variable KFP_TOKEN holds no token; set it"):
        Connection(host="http://kfp", token_env="KFP_TOKEN")


def test_one_way_to_sign_in_is_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of --token-env, --token-file, --service-account, or none"):
        Connection(host="http://kfp", token_file=tmp_path / "token", service_account=True)


@pytest.mark.parametrize("begins", ["", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"])
def test_an_answer_that_drips_ends_in_time(begins: str) -> None:
    with Dripping(begins) as server, pytest.raises(StorageError, match=r"Kubeflow Pipelines at .* in full within 1 s"):
        PipelinesServer(Connection(host=server.address, timeouts=(0.5, 0.5))).reach()
