"""Which MLflow run a training gets, and which one its student finds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from sidlsg.registry.connection import experiment_id
from sidlsg.registry.run_log import run_params
from sidlsg.registry.tracking import runs as module
from sidlsg.registry.tracking.runs import (
    GIVEN_TAG,
    TRAINING_TAG,
    Training,
    find_or_make_run,
    make_run,
    run_of_student,
    take_given_run,
    tracking_address,
)
from sidlsg.registry.versions import STUDENT_TAG
from sidlsg.runtime.errors import InputError
from unit.registry.tracking.student import STUDENT


def training(key: str, **changes: Any) -> Training:
    student = dataclasses.replace(STUDENT, **changes)
    return Training(
        key=key,
        name="tiny-run",
        teacher_sha256=student.teacher_sha256,
        prompts_sha256=student.prompts_sha256,
        params=run_params(student),
    )


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    return experiment_id(client, request.node.name)


def test_where_to_track(monkeypatch):
    assert tracking_address("") == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_address("") == ""  # an address alone asks for nothing
    monkeypatch.setenv("MLFLOW_RUN_ID", "1" * 32)
    assert tracking_address("") == "http://mlflow:5000"
    assert tracking_address("sqlite:///a.db") == "sqlite:///a.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InputError, match="set MLFLOW_TRACKING_URI too, or unset MLFLOW_RUN_ID"):
        tracking_address("")


def test_a_training_finds_its_run_again(client, experiment):
    run = find_or_make_run(client, experiment, training("one"))
    assert run.info.run_name == "tiny-run"
    assert run.data.params == run_params(STUDENT)
    assert run.data.tags[TRAINING_TAG] == "one"
    assert find_or_make_run(client, experiment, training("one")).info.run_id == run.info.run_id
    other = find_or_make_run(client, experiment, training("two"))
    assert other.info.run_id != run.info.run_id
    # With a student it is found as long as none is without.
    client.set_tag(run.info.run_id, STUDENT_TAG, "e" * 64)
    assert find_or_make_run(client, experiment, training("one")).info.run_id == run.info.run_id
    anew = make_run(client, experiment, training("one"))
    assert anew.info.run_id != run.info.run_id
    assert find_or_make_run(client, experiment, training("one")).info.run_id == anew.info.run_id


def test_of_two_runs_made_at_once_the_older_stays(client, experiment, monkeypatch):
    first = find_or_make_run(client, experiment, training("raced"))
    original, calls = module._found_run, []

    def blind_once(*args):
        calls.append(args)
        return None if len(calls) == 1 else original(*args)

    monkeypatch.setattr(module, "_found_run", blind_once)
    assert find_or_make_run(client, experiment, training("raced")).info.run_id == first.info.run_id
    assert len(client.search_runs([experiment])) == 1


def test_a_given_run_becomes_the_trainings(client, experiment):
    given = client.create_run(experiment, run_name="nightly")
    client.log_param(given.info.run_id, "lr", "another's")
    run = take_given_run(client, given.info.run_id, training("given"))
    assert (run.info.run_id, run.info.run_name) == (given.info.run_id, "nightly")
    assert run.data.tags[GIVEN_TAG] == "true"
    assert run.data.params == run_params(STUDENT) | {"lr": "another's"}
    assert take_given_run(client, given.info.run_id, training("given")).info.run_id == given.info.run_id
    # Without the variable, the training gets its own run.
    assert find_or_make_run(client, experiment, training("given")).info.run_id != given.info.run_id
    with pytest.raises(InputError, match="numbers of another training \\(given, this one is second\\)"):
        take_given_run(client, given.info.run_id, training("second"))


def test_a_given_run_that_is_not_there_is_refused(client, experiment):
    with pytest.raises(InputError, match=r"MLFLOW_RUN_ID is 0+, and there is no such run"):
        take_given_run(client, "0" * 32, training("lost"))
    deleted = client.create_run(experiment).info.run_id
    client.delete_run(deleted)
    with pytest.raises(InputError, match="was deleted; restore it"):
        take_given_run(client, deleted, training("lost"))


def log_seconds(client: MlflowClient, run: Any, *points: tuple[int, float]) -> None:
    client.log_batch(run.info.run_id, metrics=[Metric("seconds", value, 1, step) for step, value in points])


def test_a_student_finds_the_run_of_its_training_by_its_points(client, experiment):
    """Three trainings of one identity: only their times show which one made a student."""
    own = {"teacher_sha256": "1" * 64}
    student = dataclasses.replace(STUDENT, **own)
    rows = [(32, {"seconds": 1.25, "loss": 2.0}), (64, {"seconds": 2.5, "loss": 1.0})]
    assert run_of_student(client, student, rows) is None
    runs = []
    for points in ([(32, 1.5)], [(32, 1.75), (64, 2.5)], [(64, 1.25)]):
        run = client.create_run(experiment, tags=training("same", **own).tags)
        log_seconds(client, run, *points)
        runs.append(run.info.run_id)
    assert run_of_student(client, student, rows).info.run_id == runs[1]
    # Another student's is not taken, and what is written down counts most.
    client.set_tag(runs[1], STUDENT_TAG, "f" * 64)
    assert run_of_student(client, student, rows) is None
    client.set_tag(runs[2], STUDENT_TAG, student.digest)
    assert run_of_student(client, student, rows).info.run_id == runs[2]


def test_a_run_without_any_points_is_found_by_its_parameters(client, experiment):
    own = {"teacher_sha256": "2" * 64}
    student = dataclasses.replace(STUDENT, **own)
    run = find_or_make_run(client, experiment, training("empty", **own))
    assert run_of_student(client, student, []).info.run_id == run.info.run_id
    assert run_of_student(client, dataclasses.replace(student, seed=1), []) is None
    assert run_of_student(client, dataclasses.replace(student, prompts_sha256="3" * 64), []) is None


def test_a_run_that_was_not_followed_is_not_taken(client, experiment):
    own = {"teacher_sha256": "4" * 64}
    tags = {name: tag for name, tag in training("x", **own).tags.items() if name != TRAINING_TAG}
    run = client.create_run(experiment, tags=tags)
    log_seconds(client, run, (32, 1.25))
    assert run_of_student(client, dataclasses.replace(STUDENT, **own), [(32, {"seconds": 1.25})]) is None
