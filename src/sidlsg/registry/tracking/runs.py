"""The MLflow run of a training: opened by a pipeline server, found again after a restart, or created."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType

from sidlsg.registry.run_log import Row, log_entries, log_missing_params, run_params
from sidlsg.registry.versions import STUDENT_TAG, found_or_none, pages
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import run_tag
from sidlsg.storage.records import Student

TRAINING_TAG = "training_sha256"
"""The key of a training's identity, by which a resumed training finds its run."""
GIVEN_TAG = "opened_elsewhere"
"""Marks a run that another program opened, and that this package may not end or rename."""
GIVEN_RUN, GIVEN_ADDRESS = "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"
"""Variables that a pipeline server sets for a process that is to use its run."""
_WALL_CLOCK = "seconds"
"""A metric of which no two trainings have a point in common."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that has no student yet."""

    key: str
    """Of the run's identity; a resumed training has the same."""
    name: str
    """For people."""
    teacher_sha256: str
    prompts_sha256: str
    params: dict[str, str]

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which its run is found."""
        return {
            TRAINING_TAG: self.key,
            "teacher_sha256": self.teacher_sha256,
            "prompts_sha256": self.prompts_sha256,
            "recipe": self.params["recipe"],
            "strategy": self.params["strategy"],
            **run_tag(),
        }


def tracking_address(tracking_uri: str) -> str:
    """The given URI, or else that of the run that a pipeline server opened for this process; empty for no tracking."""
    if tracking_uri or not given_run():
        return tracking_uri
    address = os.environ.get(GIVEN_ADDRESS, "")
    if not address:
        raise InputError(
            f"{GIVEN_RUN} is {given_run()}, but neither a tracking URI nor {GIVEN_ADDRESS} says where that MLflow run "
            f"is; set {GIVEN_ADDRESS} too, or unset {GIVEN_RUN}"
        )
    return address


def given_run() -> str:
    """The id of the run that a pipeline server opened for this process; empty for none."""
    return os.environ.get(GIVEN_RUN, "")


def take_given_run(client: MlflowClient, run_id: str, training: Training) -> Any:
    """Use a run that another program opened for this training, without renaming it.

    Raises:
        InputError: there is no such run, or it is another training's.
    """
    run = found_or_none(client.get_run, run_id)
    if run is None:
        raise InputError(
            f"{GIVEN_RUN} is {run_id}, and there is no such run on that MLflow server; give the address of the server "
            f"that opened it, or unset {GIVEN_RUN}"
        )
    if run.info.lifecycle_stage == "deleted":
        raise InputError(f"{GIVEN_RUN} is {run_id}, and that run was deleted; restore it, or unset {GIVEN_RUN}")
    key = run.data.tags.get(TRAINING_TAG, training.key)
    if key != training.key:
        raise InputError(
            f"{GIVEN_RUN} is {run_id}, and that run has the numbers of another training ({key[:16]}, this one is "
            f"{training.key[:16]}); open a run for each training, or unset {GIVEN_RUN}"
        )
    log_entries(client, run_id, tags={**training.tags, GIVEN_TAG: "true"})
    log_missing_params(client, run, training.params)
    return client.get_run(run_id)


def find_or_make_run(client: MlflowClient, experiment: str, training: Training) -> Any:
    """The run of a stopped training, or a new one; of several that are made at once the oldest stays.

    A training that has its student gets its run back too, so that no new run is made if nothing is left to train.
    """
    return _found_run(client, experiment, training) or make_run(client, experiment, training)


def make_run(client: MlflowClient, experiment: str, training: Training) -> Any:
    """A new run for a training whose other runs have their students."""
    new = client.create_run(experiment, tags=training.tags, run_name=training.name)
    run = _found_run(client, experiment, training) or new
    if run.info.run_id != new.info.run_id:
        client.delete_run(new.info.run_id)
    log_missing_params(client, run, training.params)
    return client.get_run(run.info.run_id)


def run_of_student(client: MlflowClient, student: Student, rows: Sequence[Row]) -> Any:
    """The run that tracked a student's training, in any experiment; None where there is none.

    Usually it has the student's digest. A training that ended before that could be logged is recognised by the rows of
    its log: their seconds are those of one training only.
    """
    own = [
        f"tags.{TRAINING_TAG} IS NOT NULL",
        f"tags.teacher_sha256 = '{student.teacher_sha256}'",
        f"tags.prompts_sha256 = '{student.prompts_sha256}'",
    ]
    experiments = pages(client.search_experiments, view_type=ViewType.ACTIVE_ONLY)
    runs = _oldest_first(client, [experiment.experiment_id for experiment in experiments], " and ".join(own))
    tagged = [run for run in runs if run.data.tags.get(STUDENT_TAG) == student.digest]
    untagged = [run for run in runs if STUDENT_TAG not in run.data.tags]
    return next(iter(tagged or [run for run in untagged if _tracked(client, run, student, rows)]), None)


def _tracked(client: MlflowClient, run: Any, student: Student, rows: Sequence[Row]) -> bool:
    if _WALL_CLOCK not in run.data.metrics:  # the server went away before the first row
        return all(run.data.params.get(name) == value for name, value in run_params(student).items())
    seconds = {(step, values.get(_WALL_CLOCK)) for step, values in rows}
    history = client.get_metric_history(run.info.run_id, _WALL_CLOCK)
    return any((point.step, point.value) in seconds for point in history)


def _found_run(client: MlflowClient, experiment: str, training: Training) -> Any:
    """The oldest one without a student, or else the newest one with a student."""
    runs = _oldest_first(client, [experiment], f"tags.{TRAINING_TAG} = '{training.key}' and tags.{GIVEN_TAG} IS NULL")
    without = [run for run in runs if STUDENT_TAG not in run.data.tags]
    return next(iter(without or reversed(runs)), None)


def _oldest_first(client: MlflowClient, experiments: list[str], condition: str) -> list[Any]:
    return sorted(client.search_runs(experiments, condition), key=lambda run: (run.info.start_time, run.info.run_id))
