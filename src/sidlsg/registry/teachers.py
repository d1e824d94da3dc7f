"""Teachers in the registry: each a model version of its own, which its students' versions name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.connection import connect, experiment_id, explained
from sidlsg.registry.files import upload
from sidlsg.registry.locks import locked
from sidlsg.registry.names import check_name
from sidlsg.registry.run_log import licence_tags
from sidlsg.registry.versions import create_version, require_run, run_of, tagged_versions
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Licence, Student
from sidlsg.teacher.folder import FOLDER, check_folder, copy_licence, folder_digest

TEACHER_TAG = "teacher_sha256"
"""The tag by which a teacher's version is found: the digest of its model files."""
TEACHER_MODEL_TAG, TEACHER_VERSION_TAG = "teacher_model", "teacher_version"
"""The tags by which a student's version names its teacher's."""
PLACE_TAG = "place"
"""The tag that says where runs find a teacher: only somebody who announces one knows."""
PATH = "teacher"
"""Where its small files are among the run's artifacts."""
FILE = "teacher.json"
"""Names the teacher by its digest."""


@dataclass(frozen=True, kw_only=True)
class TeacherVersion:
    """A teacher in the registry."""

    name: str
    version: int
    sha256: str


def teacher_name(student_name: str) -> str:
    """The registered model that has the teachers of a model's students, where nobody named another."""
    return f"{student_name}-teacher"


@explained
def register_teacher(folder: Path, place: str, tracking_uri: str, name: str, sha256: str = "") -> TeacherVersion:
    """Register a teacher and say where runs find it, which a trigger can take as a reason for one.

    The weights stay where they are: the version names them by digest, and keeps the card and the texts of licence and
    use restrictions.

    Args:
        folder: a `StableDiffusionPipeline`.
        place: where runs find it, see `sidlsg.storage.uri`.
        tracking_uri: where MLflow is, see `connect`.
        name: the registered model's name, made if there is none.
        sha256: digest of its model files where the caller has found it; empty to compute it.

    Raises:
        InputError: the folder is no teacher, the name is not allowed, MLflow cannot be reached, or the version that
            is there has lost its run.
    """
    check_name(name)
    check_folder(folder)
    digest = sha256 or folder_digest(folder)
    client = connect(tracking_uri, create=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        licence = copy_licence(folder, files)
        version = _registered(client, tracking_uri, name, digest, licence, files, place)
    require_run(client, version)
    if version.tags.get(PLACE_TAG) != place:
        # It came with a student before.
        client.set_model_version_tag(name, version.version, PLACE_TAG, place)
    return TeacherVersion(name=name, version=int(version.version), sha256=digest)


def check_teacher(client: MlflowClient, version: Any) -> None:
    """Check that a teacher's version has its run and its files.

    Raises:
        InputError: what it lacks, in words that follow its name.
    """
    if run_of(client, version) is None:
        raise InputError("its run is gone")
    if f"{PATH}/{FILE}" not in {file.path for file in client.list_artifacts(version.run_id, PATH)}:
        raise InputError(f"{FILE} is not among its files")


def register_teacher_of(
    client: MlflowClient, tracking_uri: str, student: Student, folder: Path, name: str
) -> TeacherVersion:
    """Register the teacher of a student by what the student's folder has of it."""
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        for ref in student.licence.files:
            (files / ref.path).parent.mkdir(exist_ok=True)
            (files / ref.path).write_bytes((folder / ref.path).read_bytes())
        version = _registered(client, tracking_uri, name, student.teacher_sha256, student.licence, files, "")
    return TeacherVersion(name=name, version=int(version.version), sha256=student.teacher_sha256)


def _registered(
    client: MlflowClient, tracking_uri: str, name: str, digest: str, licence: Licence, files: Path, place: str
) -> Any:
    with locked(client, partial(_unregistered, client, name, digest), "registration of a teacher") as claim:
        if claim is not None:
            tags = {TEACHER_TAG: digest, **licence_tags(licence), **({PLACE_TAG: place} if place else {})}
            run = _run(client, experiment_id(client, tracking_uri, name), digest)
            upload(client, run.info.run_id, files / FOLDER, PATH)
            client.log_dict(run.info.run_id, {"sha256": digest, **licence_tags(licence)}, f"{PATH}/{FILE}")
            client.set_terminated(run.info.run_id, "FINISHED")
            claim.check()
            named = f"Licence: {licence.name}." if licence.name else "Its card names no licence."
            what = f"A teacher, SHA-256 of its model files {digest}. {named} The weights are not in the registry."
            create_version(client, name, TEACHER_TAG, run, PATH, tags, what)
    return tagged_versions(client, name, TEACHER_TAG, digest)[0]


def _unregistered(client: MlflowClient, name: str, digest: str) -> str | None:
    return None if tagged_versions(client, name, TEACHER_TAG, digest) else f"{name}/teacher {digest[:16]}"


def _run(client: MlflowClient, experiment: str, digest: str) -> Any:
    """The teacher's run, the oldest where a killed call left one."""
    query = f"tags.{TEACHER_TAG} = '{digest}'"
    if not client.search_runs([experiment], query):
        client.create_run(experiment, tags={TEACHER_TAG: digest}, run_name=f"teacher-{digest[:8]}")
    first, *others = sorted(client.search_runs([experiment], query), key=lambda run: run.info.start_time)
    for other in others:
        client.delete_run(other.info.run_id)
    return first
