"""Brings a registered student's diffusers folder back from MLflow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.errors import InputError
from sidlsg.records import ModelVersion, Student
from sidlsg.registry.connect import connect
from sidlsg.registry.explain import explained
from sidlsg.registry.package import MODEL_PATH, PATH_IN_MODEL
from sidlsg.registry.versions import look_with_doctor, require_same_student
from sidlsg.storage import atomic_folder, refuse_foreign


@explained
def fetch_student(version: ModelVersion, tracking_uri: str, folder: Path) -> Path:
    """Download a registered student to `folder` and check it.

    Returns:
        `folder`, complete and equal to what was registered.

    Raises:
        InputError: there is no such version, its files are missing or differ from its record, or `folder` holds
            something else.
    """
    refuse_foreign(folder, Student.FILE)
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not named like what a killed writer of `folder` leaves, which the next writer clears away.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        downloaded = download(client, version, registered.run_id, f"{MODEL_PATH}/{PATH_IN_MODEL}", scratch)
        require_files(version, downloaded)
        with atomic_folder(folder, Student.FILE) as new:
            for child in downloaded.iterdir():
                os.replace(child, new / child.name)
    return folder


def download(client: MlflowClient, version: ModelVersion, run_id: str, path: str, target: str) -> Path:
    """Download a version's files at `path` among its run's artifacts; returns where they are.

    Raises:
        InputError: they cannot be downloaded.
    """
    try:
        return Path(client.download_artifacts(run_id, path, target))
    except (MlflowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the files of {version.name!r} version {version.version} cannot be downloaded ({reason}); "
            f"{look_with_doctor(version.name)}"
        ) from error


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
