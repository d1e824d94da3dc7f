"""Uploading: what comes back is what was sent, and what is there already stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sidlsg.registry.connection import connect, experiment_id
from sidlsg.registry.files import stored_digest, upload
from sidlsg.runtime.errors import StorageError
from sidlsg.storage.files import sha256_file


@pytest.fixture
def run(tracking_uri: str) -> tuple[MlflowClient, str]:
    client = connect(tracking_uri, create=True)
    return client, client.create_run(experiment_id(client, tracking_uri, "uploads")).info.run_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.bin", "deep/b.bin", "deep/er/c.bin"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    return tmp_path / "folder"


def sent(monkeypatch: pytest.MonkeyPatch, change: Any = None) -> list[str]:
    """The files that are sent; `change` does something to what is stored of each."""
    original, names = MlflowClient.log_artifact, []

    def log(self: MlflowClient, run_id: str, local: str, parent: str) -> None:
        names.append(Path(local).name)
        if change is not None:
            local = change(Path(local))
        original(self, run_id, local, parent)

    monkeypatch.setattr(MlflowClient, "log_artifact", log)
    return names


def test_everything_arrives_once(run: tuple[MlflowClient, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, run_id = run
    names = sent(monkeypatch)
    upload(client, run_id, folder, "model")
    assert stored_digest(client, run_id, "model/deep/er/c.bin") == sha256_file(folder / "deep" / "er" / "c.bin")
    (folder / "a.bin").write_bytes(b"changed")
    upload(client, run_id, folder, "model")
    assert names == ["a.bin", "b.bin", "c.bin", "a.bin"]
    assert stored_digest(client, run_id, "model/a.bin") == sha256_file(folder / "a.bin")


def test_a_store_that_loses_bytes_is_found_out(
    run: tuple[MlflowClient, str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortened(path: Path) -> str:
        short = tmp_path / "short" / path.name
        short.parent.mkdir(exist_ok=True)
        short.write_bytes(path.read_bytes()[:-1])
        return str(short)

    sent(monkeypatch, shortened)
    with pytest.raises(StorageError, match=r"model/a\.bin of run .* came back .* with SHA-256"):
        upload(*run, folder, "model")
