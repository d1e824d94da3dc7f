"""Brings a registered student back from MLflow: its diffusers folder, or the whole model to be served."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.package import MODEL_PATH, MODEL_TAG, PATH_IN_MODEL, model_digest
from sidlsg.registry.versions import look_with_doctor, require_same_student
from sidlsg.runtime.errors import InputError, StorageError, first_line
from sidlsg.storage.files import atomic_folder, refuse_foreign, sha256_file
from sidlsg.storage.records import ModelVersion, Student

SERVED = "MLmodel"
"""The file by which a folder is known as an MLflow model."""


@explained
def fetch_student(version: ModelVersion, tracking_uri: str, folder: Path) -> Path:
    """Download a registered student to `folder` and check it.

    Returns:
        `folder`, complete and equal to what was registered.

    Raises:
        InputError: there is no such version, its files are missing or differ from its record, or `folder` holds
            something else.
    """
    with _downloaded(version, tracking_uri, f"{MODEL_PATH}/{PATH_IN_MODEL}", folder, Student.FILE) as (student, _):
        require_files(version, student)
    return folder


@explained
def fetch_model(version: ModelVersion, tracking_uri: str, folder: Path) -> Path:
    """Download a version's MLflow model to `folder`, to be served from there, after a check of all its files.

    MLflow runs a model's own code when it loads it, and who may write artifacts may change that code. The digest is a
    tag of the run, which only who may write to the registry can change.

    Returns:
        `folder`, complete and equal to what was registered.

    Raises:
        InputError: as `fetch_student`; or the files that serve the student are not those that were registered.
    """
    with _downloaded(version, tracking_uri, MODEL_PATH, folder, SERVED) as (model, tags):
        if MODEL_TAG not in tags:
            raise InputError(
                f"the run of {version.name!r} version {version.version} has no digest of the files that serve it "
                f"({MODEL_TAG}), so they cannot be checked; delete that version and register the student again"
            )
        require_model(version, model, tags[MODEL_TAG])
    return folder


@contextlib.contextmanager
def _downloaded(
    version: ModelVersion, tracking_uri: str, path: str, folder: Path, marker: str
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A version's files at `path`, and its run's tags; where the block finds nothing wrong, they become `folder`."""
    refuse_foreign(folder, marker)
    client = connect(tracking_uri)
    run_id = require_same_student(client, version.name, version.version, version.student_sha256).run_id
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not named like what a killed writer of `folder` leaves, which the next writer clears away.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        downloaded = download(client, version, run_id, path, scratch)
        yield downloaded, client.get_run(run_id).data.tags
        with atomic_folder(folder, marker) as new:
            for child in downloaded.iterdir():
                os.replace(child, new / child.name)


def download(client: MlflowClient, version: ModelVersion, run_id: str, path: str, target: str) -> Path:
    """Download a version's files at `path` among its run's artifacts; returns where they are.

    Raises:
        InputError: they cannot be downloaded.
    """
    try:
        return Path(client.download_artifacts(run_id, path, target))
    except (MlflowException, OSError) as error:
        reason = first_line(error)
        raise InputError(
            f"the files of {version.name!r} version {version.version} cannot be downloaded ({reason}); "
            f"{look_with_doctor(version.name)}"
        ) from error


def require_model(version: ModelVersion, downloaded: Path, sha256: str) -> None:
    """Check that a version's downloaded MLflow model is the one that was registered, its code included.

    Raises:
        InputError: its student's files differ, see `require_files`; or its digest is not `sha256`.
    """
    require_files(version, downloaded / PATH_IN_MODEL)
    if model_digest(downloaded) != sha256:
        raise InputError(
            f"the files that serve {version.name!r} version {version.version} are not those that were registered with "
            f"it; they can run any code: do not serve them, and find out who wrote them"
        )


def require_files(version: ModelVersion, downloaded: Path) -> None:
    """Check that the downloaded files of a version are those of the student that was registered.

    Raises:
        InputError: a file is missing, differs, or is of another student.
    """
    student = Student.load(downloaded)
    if student.digest != version.student_sha256:
        raise InputError(
            f"the files of {version.name!r} version {version.version} are of student {student.digest[:16]}, not of "
            f"{version.student_sha256[:16]}; {look_with_doctor(version.name)}"
        )
    student.verify(downloaded)


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
