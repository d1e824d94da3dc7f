"""The register stage: a student becomes one run and one model version in MLflow, however often it is asked."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, experiment_id, explained
from sidlsg.registry.files import upload
from sidlsg.registry.locks import locked
from sidlsg.registry.names import check_name
from sidlsg.registry.package import (
    MODEL_PATH,
    MODEL_TAG,
    SAFETY_TAG,
    model_digest,
    safety_checker_of,
    save_model,
    student_files,
)
from sidlsg.registry.run_log import evaluation_rows, grid_steps, log_entries, log_student, run_tags, training_rows
from sidlsg.registry.score_log import description
from sidlsg.registry.teachers import TEACHER_MODEL_TAG, TEACHER_VERSION_TAG, register_teacher_of, teacher_name
from sidlsg.registry.tracking.runs import GIVEN_TAG, TRAINING_TAG, run_of_student
from sidlsg.registry.versions import STUDENT_TAG, create_version, look_with_doctor, versions_of
from sidlsg.registry.whole import COMPLETE_TAG, check_whole
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import RUN_TAG
from sidlsg.storage.records import ModelVersion, Student


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a student's record does not say of how it came about."""

    pipeline_run: str = ""
    """Id of the pipeline run that registers it; empty where none does."""
    hourly_price: float = 0.0
    """Price of the training's machine an hour, in any currency; 0 where it is not known."""
    teacher: str = ""
    """Place of the teacher with its digest; empty where it is not known."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.hourly_price) and self.hourly_price >= 0):
            raise InputError(f"hourly price {self.hourly_price} given; give a finite number of 0 or more")

    def tags(self, student: Student) -> dict[str, str]:
        """What a new version is told besides; a version that is there keeps what it was told."""
        tags = {RUN_TAG: self.pipeline_run} if self.pipeline_run else {}
        if self.hourly_price:
            tags["training_cost"] = f"{student.seconds / 3600 * self.hourly_price:.4f}"
            tags["hourly_price"] = f"{self.hourly_price:g}"
        return tags


@explained
def register(
    student_folder: Path, tracking_uri: str, name: str, circumstances: Circumstances | None = None
) -> ModelVersion:
    """Register a student as a version of model `name`, in the experiment of that name.

    The Student record's digest is the key: registering the same student again gives the version that is there, and
    a call that died half-way is continued by the next. Of several callers at once one works, and the others wait for
    it. A student whose training was tracked gets no second run: what the training's run lacks is added.

    Args:
        student_folder: what the distil stage wrote: a diffusers folder with record, log, grids and model card.
        tracking_uri: where MLflow is, see `connect`.
        name: the registered model's name, made if there is none. The teacher becomes a version of `NAME-teacher`.
        circumstances: what the version is told besides.

    Raises:
        InputError: the student is incomplete or damaged, the name is not allowed, MLflow cannot be reached, or the
            version that is there has lost its run or its files.
    """
    check_name(name)
    student = Student.load(student_folder)
    # Everything is checked before anything is written.
    student.verify(student_folder)
    student_files(student, student_folder)
    training_rows(student, student_folder)
    evaluation_rows(student, student_folder)
    grid_steps(student, student_folder)

    client = connect(tracking_uri, create=True)
    with locked(client, partial(_unregistered, client, name, student.digest), "registration") as claim:
        if claim is not None:
            told = circumstances or Circumstances()
            run = _logged_run(client, experiment_id(client, tracking_uri, name), student, student_folder, told)
            teacher = register_teacher_of(client, tracking_uri, student, student_folder, teacher_name(name))
            tags = {TEACHER_MODEL_TAG: teacher.name, TEACHER_VERSION_TAG: str(teacher.version)}
            tags[SAFETY_TAG] = safety_checker_of(student)
            claim.check()
            _create_version(client, name, run, student, tags | told.tags(student))
    version = versions_of(client, name, student.digest)[0]
    if claim is None:
        _require_whole(client, version)
    return ModelVersion(name=name, version=int(version.version), run_id=version.run_id, student_sha256=student.digest)


def _unregistered(client: MlflowClient, name: str, digest: str) -> str | None:
    """A student that has no version yet, as a thing to claim."""
    return None if versions_of(client, name, digest) else f"{name}/student {digest[:16]}"


def _require_whole(client: MlflowClient, version: Any) -> None:
    """Check a version that was there before: its run or its files may have been deleted since."""
    try:
        check_whole(client, version)
    except InputError as error:
        raise InputError(
            f"version {version.version} of {version.name!r} is of this student and not whole: {error}; "
            f"{look_with_doctor(version.name)}, then register the student again"
        ) from error


def _logged_run(client: MlflowClient, experiment: str, student: Student, folder: Path, told: Circumstances) -> Any:
    """The student's run, complete: a finished one, an unfinished one or its training's continued, or a new one."""
    run = _oldest_run(client, experiment, student)
    if run is None:
        run = _training_run(client, student, folder)
    if run is None:
        tags = run_tags(student) | ({RUN_TAG: told.pipeline_run} if told.pipeline_run else {})
        new = client.create_run(experiment, tags=tags, run_name=f"{student.recipe}-{student.digest[:8]}")
        run = _oldest_run(client, experiment, student) or new
        if run.info.run_id != new.info.run_id:
            client.delete_run(new.info.run_id)
    run_id = run.info.run_id
    with _status_kept(client, run):
        if run.data.tags.get(COMPLETE_TAG) == student.digest:
            return run
        log_entries(client, run_id, tags=run_tags(student))
        log_student(client, run, student, folder, told.teacher)
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / MODEL_PATH
            save_model(student, folder, packed)
            upload(client, run_id, packed, MODEL_PATH)
            client.set_tag(run_id, MODEL_TAG, model_digest(packed))
        # The next call that finds this run only makes the version.
        client.set_tag(run_id, COMPLETE_TAG, student.digest)
    return run


@contextlib.contextmanager
def _status_kept(client: MlflowClient, run: Any) -> Iterator[None]:
    """Say by the run's status how the work on it goes, but for a run that another program opened and will end."""
    run_id = run.info.run_id
    if GIVEN_TAG in run.data.tags:
        yield
        return
    client.update_run(run_id, status="RUNNING")
    try:
        yield
    except BaseException:
        with contextlib.suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")
        raise
    # How long a training took stays to be seen.
    client.set_terminated(run_id, "FINISHED", run.info.end_time if TRAINING_TAG in run.data.tags else None)


def _oldest_run(client: MlflowClient, experiment: str, student: Student) -> Any:
    runs = client.search_runs([experiment], f"tags.{STUDENT_TAG} = '{student.digest}'")
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def _training_run(client: MlflowClient, student: Student, folder: Path) -> Any:
    run = run_of_student(client, student, training_rows(student, folder))
    # A model that is registered with the run stays: another student of a run that was opened elsewhere gets its own.
    return None if run is None or run.data.tags.get(COMPLETE_TAG, student.digest) != student.digest else run


def _create_version(client: MlflowClient, name: str, run: Any, student: Student, tags: dict[str, str]) -> None:
    """Make the version, and drop a run that another one's version made needless."""
    told = {**run_tags(student), **tags}
    kept, is_new = create_version(client, name, STUDENT_TAG, run, MODEL_PATH, tags=told, description=description(told))
    if not is_new and kept.run_id != run.info.run_id and TRAINING_TAG not in run.data.tags:
        client.delete_run(run.info.run_id)
