"""The register stage: a student becomes one run and one model version in MLflow, however often it is called."""

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

from sidlsg.registry.address import check_model_name
from sidlsg.registry.connection import connect, experiment_id, explained
from sidlsg.registry.files import COMPLETE_TAG, check_complete, upload
from sidlsg.registry.gate_rules import REAL_IMAGES_TAG
from sidlsg.registry.locks import locked
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
from sidlsg.registry.versions import (
    STUDENT_TAG,
    create_version,
    label,
    look_with_doctor,
    model_version,
    tagged_versions,
)
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import RUN_TAG
from sidlsg.storage.real_image_set import real_images_of
from sidlsg.storage.records import ModelVersion, Student

MOST_TAG = 1000
"""Characters of the tag with a student's real images, whose licence may be a long text."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Facts about a student that its record does not have."""

    pipeline_run: str = ""
    """Id of the pipeline run that registers it; empty for none."""
    hourly_price: float = 0.0
    """Price of the training's machine an hour, in any currency; 0 where it is not known."""
    teacher: str = ""
    """URI of the teacher with its digest; empty where it is not known."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.hourly_price) and self.hourly_price >= 0):
            raise InputError(f"hourly price {self.hourly_price} given; give a finite number of 0 or more")

    def tags(self, student: Student) -> dict[str, str]:
        """Further tags of a new version; an existing version keeps its own."""
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

    The Student record's digest is the key: registering the same student again returns its version, and the next call
    resumes one that was killed. Of several simultaneous callers one works, and the others wait for it. A student whose
    training was tracked gets no second run: the training's run is completed.

    Args:
        student_folder: what the distil stage wrote: a diffusers folder with record, log, grids and model card.
        tracking_uri: see `connect`.
        name: the registered model's name, created if there is none. The teacher becomes a version of `NAME-teacher`.
        circumstances: of a new version.

    Raises:
        InputError: the student is incomplete or damaged, the name is not allowed, MLflow cannot be reached, or the
            student's version has lost its run or its files.
    """
    check_model_name(name)
    student = Student.load(student_folder)
    # Everything is checked before anything is written.
    student.verify(student_folder)
    student_files(student, student_folder)
    training_rows(student, student_folder)
    evaluation_rows(student, student_folder)
    grid_steps(student, student_folder)

    client = connect(tracking_uri, create=True)
    circumstances = circumstances or Circumstances()
    with locked(client, partial(_to_register, client, name, student.digest), "registration") as lock:
        if lock is not None:
            run = _logged_run(client, experiment_id(client, name), student, student_folder, circumstances)
            teacher = register_teacher_of(client, student, student_folder, teacher_name(name))
            tags = {
                **run_tags(student),
                TEACHER_MODEL_TAG: teacher.name,
                TEACHER_VERSION_TAG: str(teacher.version),
                SAFETY_TAG: safety_checker_of(student),
                **_real_images_tag(student, student_folder),
                **circumstances.tags(student),
            }
            lock.check()
            kept, is_new = create_version(client, name, STUDENT_TAG, run, MODEL_PATH, tags, description(tags))
            if not is_new and kept.run_id != run.info.run_id and TRAINING_TAG not in run.data.tags:
                client.delete_run(run.info.run_id)
    version = tagged_versions(client, name, STUDENT_TAG, student.digest)[0]
    if lock is None:
        try:
            check_complete(client, version)
        except InputError as error:
            raise InputError(
                f"{label(version)} is of this student and not whole: {error}; {look_with_doctor(name)}, then register "
                "the student again"
            ) from error
    return model_version(version)


def _real_images_tag(student: Student, folder: Path) -> dict[str, str]:
    images = real_images_of(student, folder)
    return {} if images is None else {REAL_IMAGES_TAG: images.summary[:MOST_TAG]}


def _to_register(client: MlflowClient, name: str, digest: str) -> str | None:
    """A student without a version, as a thing to lock."""
    return None if tagged_versions(client, name, STUDENT_TAG, digest) else f"{name}/student {digest[:16]}"


def _logged_run(
    client: MlflowClient, experiment: str, student: Student, folder: Path, circumstances: Circumstances
) -> Any:
    """The student's run, complete: its own finished or unfinished one, its training's, or a new one."""
    run = _oldest_run(client, experiment, student) or _training_run(client, student, folder)
    if run is None:
        tags = run_tags(student) | ({RUN_TAG: circumstances.pipeline_run} if circumstances.pipeline_run else {})
        new = client.create_run(experiment, tags=tags, run_name=f"{student.recipe}-{student.digest[:8]}")
        run = _oldest_run(client, experiment, student) or new
        if run.info.run_id != new.info.run_id:
            client.delete_run(new.info.run_id)
    run_id = run.info.run_id
    with _status_of_work(client, run):
        if run.data.tags.get(COMPLETE_TAG) == student.digest:
            return run
        log_entries(client, run_id, tags=run_tags(student))
        log_student(client, run, student, folder, circumstances.teacher)
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / MODEL_PATH
            save_model(student, folder, packed)
            upload(client, run_id, packed, MODEL_PATH)
            client.set_tag(run_id, MODEL_TAG, model_digest(packed))
        # The next call that finds this run only creates the version.
        client.set_tag(run_id, COMPLETE_TAG, student.digest)
    return run


@contextlib.contextmanager
def _status_of_work(client: MlflowClient, run: Any) -> Iterator[None]:
    """Show the state of the work as the run's status, unless another program opened the run and will end it."""
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
    # A training's run keeps its end, and with it its duration.
    client.set_terminated(run_id, "FINISHED", run.info.end_time if TRAINING_TAG in run.data.tags else None)


def _oldest_run(client: MlflowClient, experiment: str, student: Student) -> Any:
    runs = client.search_runs([experiment], f"tags.{STUDENT_TAG} = '{student.digest}'")
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def _training_run(client: MlflowClient, student: Student, folder: Path) -> Any:
    run = run_of_student(client, student, training_rows(student, folder))
    # A run keeps its registered model: another student of a run that was opened elsewhere gets its own run.
    return None if run is None or run.data.tags.get(COMPLETE_TAG, student.digest) != student.digest else run
