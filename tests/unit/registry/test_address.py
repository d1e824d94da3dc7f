"""Addresses of MLflow: what is allowed, and what is shown of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.registry.address import check_address, shown, sqlite_file
from sidlsg.runtime.errors import InputError


def test_the_file_of_a_store_is_found(tmp_path: Path) -> None:
    assert sqlite_file(f"sqlite:///{tmp_path}/mlflow.db") == tmp_path / "mlflow.db"


@pytest.mark.parametrize("address", ["http://mlflow:5000", "https://mlflow.example", "sqlite:////tmp/mlflow.db"])
def test_servers_and_stores_are_allowed(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["nonsense", "postgresql://ann:secret@db/mlflow", "sqlite://"])
def test_other_addresses_are_refused_without_their_password(address: str) -> None:
    with pytest.raises(InputError, match="give sqlite:///<file> or the http") as caught:
        check_address(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://ann:secret@mlflow:5000", "https://secret@mlflow/a", "http://a@b@mlflow"])
def test_a_login_in_the_address_is_refused_with_the_variables_to_use(address: str) -> None:
    """Processes' arguments, run.json and run.log would hold it, which others can read."""
    with pytest.raises(InputError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as caught:
        check_address(address)
    assert "secret" not in str(caught.value)


def test_an_address_is_shown_without_who_uses_it() -> None:
    assert shown("https://ann:secret@mlflow.example/a") == "https://…@mlflow.example/a"
