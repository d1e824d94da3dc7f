"""Errors of MLflow and of its connections, as users see them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from urllib3.exceptions import MaxRetryError

from sidlsg.registry import connection as explain
from sidlsg.registry.connection import TRIES, explained, explained_once
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError


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
    monkeypatch.setattr(explain, "PAUSE_S", 0.0)

    @explained
    def stage(number: int, tracking_uri: str) -> None:
        assert (number, tracking_uri[:4]) == (1, "http")
        raise error

    with pytest.raises(kind) as caught:
        stage(1, "http://ann:secret@mlflow:5000")
    told = str(caught.value)
    assert words in told
    assert "http://…@mlflow:5000" in told
    assert "secret" not in told
    assert "second line" not in told
    assert len(told) < 600


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
