"""Whether a version is whole: its run is there and complete, and has the files that were registered."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.files import download, require_model
from sidlsg.registry.package import CARD, MODEL_PATH, MODEL_TAG, PATH_IN_MODEL, model_digest
from sidlsg.registry.versions import STUDENT_TAG, run_of
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import ModelVersion, Student, file_refs

COMPLETE_TAG = "complete_student_sha256"
"""The tag on a run that has everything of a student, its model included: the Student record's digest."""


def check_whole(client: MlflowClient, version: Any, files: bool = False) -> None:
    """Check a version that a student was registered as.

    Args:
        client: of the registry.
        version: as MLflow gives it.
        files: download the files and check their digests, too; without it, only that they are there.

    Raises:
        InputError: what it lacks, in words that follow its name.
    """
    student = version.tags[STUDENT_TAG]
    run = run_of(client, version)
    if run is None:
        raise InputError("its run is gone")
    if run.info.lifecycle_stage == "deleted":
        raise InputError("its run was deleted")
    if run.data.tags.get(COMPLETE_TAG) != student:
        raise InputError("its run was not completed with this student")
    if CARD not in {file.path for file in client.list_artifacts(version.run_id)}:
        raise InputError(f"its card, {CARD}, is gone")
    if files:
        record = ModelVersion(
            name=version.name, version=int(version.version), run_id=version.run_id, student_sha256=student
        )
        with tempfile.TemporaryDirectory() as scratch:
            model = download(client, record, version.run_id, MODEL_PATH, scratch)
            # Earlier versions have no such tag.
            require_model(record, model, run.data.tags.get(MODEL_TAG) or model_digest(model))
        return
    place = f"{MODEL_PATH}/{PATH_IN_MODEL}"
    there = names_below(client, version.run_id, place)
    if Student.FILE not in there:
        raise InputError(f"{Student.FILE} is not among its files")
    with tempfile.TemporaryDirectory() as scratch:
        downloaded = client.download_artifacts(version.run_id, f"{place}/{Student.FILE}", scratch)
        wanted = {CARD, *(ref.path for ref in file_refs(Student.load(Path(downloaded))))}
    missing = sorted(wanted - there)
    if missing:
        raise InputError(f"{len(missing)} of its files are missing: {', '.join(missing[:3])}")


def names_below(client: MlflowClient, run_id: str, place: str) -> set[str]:
    """The files below a place among a run's artifacts, relative to it."""
    found: set[str] = set()
    for file in client.list_artifacts(run_id, place):
        inner = file.path.removeprefix(f"{place}/")
        found |= {f"{inner}/{name}" for name in names_below(client, run_id, file.path)} if file.is_dir else {inner}
    return found
