"""Errors of MLflow and of its connections, as users see them."""

from __future__ import annotations

import json

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from sidlsg.errors import InputError, SidlsgError, StorageError
from sidlsg.registry.explain import explained


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MlflowException("API request failed\nwith a second line"), StorageError, "API request failed"),
        (requests.ConnectionError("reset"), StorageError, "run the same command again"),
        (json.JSONDecodeError("Expecting value", "", 0), StorageError, "nothing is half done"),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), InputError, "refuses it: "),
        (MlflowException("x" * 1000), StorageError, "…"),
    ],
)
def test_errors_are_explained(error: Exception, kind: type[SidlsgError], words: str) -> None:
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
