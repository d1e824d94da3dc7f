"""Teachers in the registry: each is its own model version, which its students' versions refer to."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.address import check_model_name
from sidlsg.registry.connection import connect, experiment_id, explained
from sidlsg.registry.files import artifacts, upload
from sidlsg.registry.locks import locked
from sidlsg.registry.run_log import licence_tags
from sidlsg.registry.versions import create_version, require_run, run_of, tagged_versions
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Licence, Student
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.licence import FOLDER, copy_licence

TEACHER_TAG = "teacher_sha256"
"""On a teacher's version: the digest of its model files."""
TEACHER_MODEL_TAG, TEACHER_VERSION_TAG = "teacher_model", "teacher_version"
"""On a student's version: its teacher's version."""
URI_TAG = "place"
"""On a teacher's version: the URI from which runs load it, known only to whoever announces the teacher."""
PATH = "teacher"
"""The folder of its small files among the run's artifacts."""
FILE = "teacher.json"
"""Names the teacher by its digest."""


@dataclass(frozen=True, kw_only=True)
class TeacherVersion:
    """A teacher in the registry."""

    name: str
    version: int
    sha256: str


def teacher_name(student_name: str) -> str:
    """The default name of the registered model with the teachers of a model's students."""
    return f"{student_name}-teacher"


@explained
def register_teacher(folder: Path, uri: str, tracking_uri: str, name: str, sha256: str = "") -> TeacherVersion:
    """Register a teacher with the URI from which runs load it, for which a trigger can start a run.

    The weights are not uploaded: the version has their digest, the card, and the texts of licence and use restrictions.

    Args:
        folder: a family's pipeline.
        uri: see `sidlsg.storage.uri`.
        tracking_uri: see `connect`.
        name: the registered model's, created if there is none.
        sha256: digest of the model files, if known.

    Raises:
        InputError: the folder is not a teacher, the name is not allowed, MLflow cannot be reached, or the teacher's
            version has lost its run.
    """
    check_model_name(name)
    check_folder(folder)
    digest = sha256 or folder_digest(folder)
    client = connect(tracking_uri, create=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        licence = copy_licence(folder, files)
        version = _registered(client, name, digest, licence, files, uri)
    require_run(client, version)
    if version.tags.get(URI_TAG) != uri:
        # A student's registration made the version before.
        client.set_model_version_tag(name, version.version, URI_TAG, uri)
    return TeacherVersion(name=name, version=int(version.version), sha256=digest)


def register_teacher_of(client: MlflowClient, student: Student, folder: Path, name: str) -> TeacherVersion:
    """Register the teacher of a student from the licence files in the student's folder."""
    digest = student.teacher_sha256
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        for ref in student.licence.files:
            (files / ref.path).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / ref.path, files / ref.path)
        version = _registered(client, name, digest, student.licence, files, "")
    return TeacherVersion(name=name, version=int(version.version), sha256=digest)


def check_teacher(client: MlflowClient, version: Any) -> None:
    """Raise InputError with what a teacher's version lacks; the message continues its name."""
    if run_of(client, version) is None:
        raise InputError("its run is gone")
    if f"{PATH}/{FILE}" not in artifacts(client, version.run_id, PATH):
        raise InputError(f"{FILE} is not among its files")


def _registered(client: MlflowClient, name: str, digest: str, licence: Licence, files: Path, uri: str) -> Any:
    with locked(client, partial(_to_register, client, name, digest), "registration of a teacher") as lock:
        if lock is not None:
            tags = {TEACHER_TAG: digest, **licence_tags(licence), **({URI_TAG: uri} if uri else {})}
            run = _run(client, experiment_id(client, name), digest)
            upload(client, run.info.run_id, files / FOLDER, PATH)
            client.log_dict(run.info.run_id, {"sha256": digest, **licence_tags(licence)}, f"{PATH}/{FILE}")
            client.set_terminated(run.info.run_id, "FINISHED")
            lock.check()
            named = f"Licence: {licence.name}." if licence.name else "Its card names no licence."
            about = f"A teacher, SHA-256 of its model files {digest}. {named} The weights are not in the registry."
            create_version(client, name, TEACHER_TAG, run, PATH, tags, about)
    return tagged_versions(client, name, TEACHER_TAG, digest)[0]


def _to_register(client: MlflowClient, name: str, digest: str) -> str | None:
    """A teacher without a version, as a thing to lock."""
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
