"""Uploads files to a run, and believes that they are there when it has read them back."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient

from sidlsg.runtime.errors import StorageError
from sidlsg.storage.files import sha256_file


def upload(client: MlflowClient, run_id: str, folder: Path, path: str) -> None:
    """Upload a folder to `path` among a run's artifacts; files that are there with the same content stay.

    Large files go in parts, as MLflow's client and server agree. Each file is read back, one at a time, and must have
    the digest that it has here.

    Raises:
        StorageError: what came back of a file is something else.
    """
    there: dict[str, set[str]] = {}
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        place = f"{path}/{file.relative_to(folder).as_posix()}"
        parent = str(PurePosixPath(place).parent)
        if parent not in there:
            there[parent] = {found.path for found in client.list_artifacts(run_id, parent)}
        wanted = sha256_file(file)
        if place in there[parent] and stored_digest(client, run_id, place) == wanted:
            continue
        client.log_artifact(run_id, str(file), parent)
        found = stored_digest(client, run_id, place)
        if found != wanted:
            raise StorageError(
                f"{place} of run {run_id} came back from the artifact store with SHA-256 {found[:16]}…, and "
                f"{wanted[:16]}… was sent; see to the store, and run the same command again"
            )


def stored_digest(client: MlflowClient, run_id: str, path: str) -> str:
    """SHA-256 of a file among a run's artifacts."""
    with tempfile.TemporaryDirectory() as scratch:
        return sha256_file(Path(client.download_artifacts(run_id, path, scratch)))
