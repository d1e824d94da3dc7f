"""A version's files among its run's artifacts: uploaded, listed, downloaded and checked."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.package import CARD, MODEL_PATH, MODEL_TAG, PATH_IN_MODEL, model_digest
from sidlsg.registry.versions import STUDENT_TAG, label, look_with_doctor, model_version, require_same_student, run_of
from sidlsg.runtime.errors import InputError, StorageError, first_line
from sidlsg.storage.files import atomic_folder, refuse_foreign, sha256_file
from sidlsg.storage.records import ModelVersion, Student, file_refs

SERVED = "MLmodel"
"""Marks a folder as an MLflow model."""
COMPLETE_TAG = "complete_student_sha256"
"""On a run that has everything of a student, its model included: the Student record's digest."""
STUDENT_PATH = f"{MODEL_PATH}/{PATH_IN_MODEL}"
"""The student's folder among the run's artifacts."""


def upload(client: MlflowClient, run_id: str, folder: Path, path: str) -> None:
    """Upload a folder to `path` among a run's artifacts, except files stored with the same content already.

    Each file is downloaded again, one at a time, and its digest compared.

    Raises:
        StorageError: the artifact store returns something other than what was sent.
    """
    present: dict[str, set[str]] = {}
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        target = f"{path}/{file.relative_to(folder).as_posix()}"
        parent = str(PurePosixPath(target).parent)
        if parent not in present:
            present[parent] = artifacts(client, run_id, parent)
        wanted = sha256_file(file)
        if target in present[parent] and stored_digest(client, run_id, target) == wanted:
            continue
        client.log_artifact(run_id, str(file), parent)
        found = stored_digest(client, run_id, target)
        if found != wanted:
            raise StorageError(
                f"{target} of run {run_id} came back from the artifact store with SHA-256 {found[:16]}…, and "
                f"{wanted[:16]}… was sent; see to the store, and run the same command again"
            )


def artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    """Paths of the artifacts directly in a folder of a run."""
    return {file.path for file in client.list_artifacts(run_id, folder)}


def stored_digest(client: MlflowClient, run_id: str, path: str) -> str:
    """SHA-256 of an artifact."""
    with tempfile.TemporaryDirectory() as scratch:
        return sha256_file(Path(client.download_artifacts(run_id, path, scratch)))


@explained
def fetch_student(version: ModelVersion, tracking_uri: str, folder: Path) -> Path:
    """Download a registered student to `folder` and check it against its record.

    Raises:
        InputError: there is no such version, its files are missing or differ, or `folder` holds something else.
    """
    with _downloaded(version, tracking_uri, STUDENT_PATH, folder, Student.FILE) as (student, _):
        _require_student(version, student)
    return folder


@explained
def fetch_model(version: ModelVersion, tracking_uri: str, folder: Path) -> Path:
    """Download a version's MLflow model to `folder`, to be served from there, after a check of all its files.

    MLflow runs a model's own code when it loads it, and whoever may write artifacts may change that code. The digest
    is a tag of the run, which only those who may write to the registry can change.

    Raises:
        InputError: as `fetch_student`; or the files that serve the student are not the registered ones.
    """
    with _downloaded(version, tracking_uri, MODEL_PATH, folder, SERVED) as (model, tags):
        if MODEL_TAG not in tags:
            raise InputError(
                f"the run of {label(version)} has no digest of the files that serve it ({MODEL_TAG}), so they cannot "
                "be checked; delete that version and register the student again"
            )
        _require_model(version, model, tags[MODEL_TAG])
    return folder


@contextlib.contextmanager
def _downloaded(
    version: ModelVersion, tracking_uri: str, path: str, folder: Path, marker: str
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A version's files at `path`, and its run's tags; unless the block raises, the files become `folder`."""
    refuse_foreign(folder, marker)
    client = connect(tracking_uri)
    run_id = require_same_student(client, version).run_id
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not named like what a killed writer of `folder` leaves, which the next writer deletes.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        downloaded = _download(client, version, run_id, path, scratch)
        yield downloaded, client.get_run(run_id).data.tags
        with atomic_folder(folder, marker) as new:
            for child in downloaded.iterdir():
                os.replace(child, new / child.name)


def _download(client: MlflowClient, version: Any, run_id: str, path: str, target: str) -> Path:
    try:
        return Path(client.download_artifacts(run_id, path, target))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"the files of {label(version)} cannot be downloaded ({first_line(error)}); "
            f"{look_with_doctor(version.name)}"
        ) from error


def _require_model(version: ModelVersion, downloaded: Path, sha256: str) -> None:
    """Check that a downloaded MLflow model is the registered one, its code included."""
    _require_student(version, downloaded / PATH_IN_MODEL)
    if model_digest(downloaded) != sha256:
        raise InputError(
            f"the files that serve {label(version)} are not those that were registered with it; they can run any "
            "code: do not serve them, and find out who wrote them"
        )


def _require_student(version: ModelVersion, downloaded: Path) -> None:
    """Check the downloaded files of a version's student."""
    student = Student.load(downloaded)
    if student.digest != version.student_sha256:
        raise InputError(
            f"the files of {label(version)} are of student {student.digest[:16]}, not of "
            f"{version.student_sha256[:16]}; {look_with_doctor(version.name)}"
        )
    student.verify(downloaded)


def check_complete(client: MlflowClient, version: Any, files: bool = False) -> None:
    """Check that a student's version has its run, and the run its files; with `files`, also their digests.

    Raises:
        InputError: what the version lacks; the message continues its name.
    """
    run = run_of(client, version)
    if run is None:
        raise InputError("its run is gone")
    if run.info.lifecycle_stage == "deleted":
        raise InputError("its run was deleted")
    if run.data.tags.get(COMPLETE_TAG) != version.tags[STUDENT_TAG]:
        raise InputError("its run was not completed with this student")
    if CARD not in artifacts(client, version.run_id):
        raise InputError(f"its card, {CARD}, is gone")
    with tempfile.TemporaryDirectory() as scratch:
        if files:
            model = _download(client, version, version.run_id, MODEL_PATH, scratch)
            # Earlier versions have no such tag.
            _require_model(model_version(version), model, run.data.tags.get(MODEL_TAG) or model_digest(model))
            return
        present = set(_files_below(client, version.run_id, STUDENT_PATH))
        record = f"{STUDENT_PATH}/{Student.FILE}"
        if record not in present:
            raise InputError(f"{Student.FILE} is not among its files")
        student = Student.load(Path(client.download_artifacts(version.run_id, record, scratch)))
        wanted = {CARD, *(ref.path for ref in file_refs(student))}
    missing = sorted(path for path in wanted if f"{STUDENT_PATH}/{path}" not in present)
    if missing:
        raise InputError(f"{len(missing)} of its files are missing: {', '.join(missing[:3])}")


def _files_below(client: MlflowClient, run_id: str, folder: str) -> Iterator[str]:
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from _files_below(client, run_id, file.path)
        else:
            yield file.path
