"""The observer on a real store: rows, scores and grids by images seen, and how a training ends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from sidlsg.distil.recipes import get_recipe
from sidlsg.registry.tracking.runs import Training
from sidlsg.registry.tracking.tracker import MlflowTracker, open_tracker
from sidlsg.registry.versions import STUDENT_TAG
from sidlsg.runtime.errors import InputError, StoppedError
from sidlsg.stages.distil import training_params
from unit.registry.tracking.student import STUDENT


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def opened(tracking_uri: str, reports: list[str], request: pytest.FixtureRequest):
    def opened(key: str = "k" * 64, mfu: Callable[[float], float] | None = None) -> MlflowTracker:
        training = Training(
            key=key,
            name="tiny-run",
            teacher_sha256="a" * 64,
            prompts_sha256="b" * 64,
            params=training_params(get_recipe("tiny"), 3),
        )
        return open_tracker(tracking_uri, request.node.name, training, reports.append, mfu)

    return opened


@pytest.fixture
def runs(client: MlflowClient, request: pytest.FixtureRequest):
    def runs() -> list[Any]:
        found = client.search_runs([client.get_experiment_by_name(request.node.name).experiment_id])
        return sorted(found, key=lambda run: run.info.start_time)

    return runs


def row(iteration: int) -> dict[str, float]:
    return {
        "iteration": iteration,
        "images_seen": 16 * iteration,
        "generator_loss": 1.5 * iteration,
        "images_per_second": 20.0,
        "nan_share": math.nan,
    }


def points(client: MlflowClient, run: Any, metric: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric))


def test_everything_goes_to_the_run_by_images_seen(client, opened, runs, reports):
    tracker = opened(mfu=lambda images_per_second: images_per_second / 200)
    for iteration in (1, 2):
        tracker.logged(row(iteration))
        tracker.sampled(16 * iteration, Image.new("RGB", (8, 8)))
    tracker.evaluated({"iteration": 2, "images_seen": 32, "fid@504": 3.5})
    (run,) = runs()
    assert run.info.status == "RUNNING"
    tracker.finish(STUDENT)
    (run,) = runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "tiny-run")
    assert run.data.tags[STUDENT_TAG] == STUDENT.digest
    assert run.data.tags["hardware"] == "two cores"
    assert run.data.params["seed"] == "3"
    assert run.data.params["batch"] == str(get_recipe("tiny").batch)
    names = {"generator_loss", "images_per_second", "nan_share", "mfu", "eval/fid_504"}
    assert set(run.data.metrics) == names
    assert points(client, run, "generator_loss") == [(16, 1.5), (32, 3.0)]
    assert points(client, run, "mfu") == [(16, pytest.approx(0.1)), (32, pytest.approx(0.1))]
    assert points(client, run, "eval/fid_504") == [(32, 3.5)]
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in images) == ["16", "32"]
    assert reports == []


def test_without_a_peak_there_is_no_mfu(opened, runs):
    tracker = opened()
    tracker.logged(row(1))
    tracker.finish(STUDENT)
    assert "mfu" not in runs()[0].data.metrics


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoppedError("asked to end"), "KILLED"), (KeyboardInterrupt(), "KILLED"), (InputError("no disk"), "FAILED")],
)
def test_a_training_that_ended_early_resumes_its_run(client, opened, runs, error, status):
    tracker = opened(key=status + type(error).__name__)
    for iteration in (1, 2):
        tracker.logged(row(iteration))
        tracker.sampled(16 * iteration, Image.new("RGB", (8, 8)))
    tracker.failed(error)
    assert runs()[0].info.status == status

    tracker = opened(key=status + type(error).__name__)
    assert runs()[0].info.status == "RUNNING"
    for iteration in (2, 3):
        tracker.logged(row(iteration) | {"generator_loss": 100.0 + iteration})
        tracker.sampled(16 * iteration, Image.new("RGB", (8, 8)))
    tracker.finish(STUDENT)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert points(client, run, "generator_loss") == [(16, 1.5), (32, 3.0), (48, 103.0)]
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in images) == ["16", "32", "48"]


def test_a_training_that_has_its_student_is_left_alone(opened, runs):
    tracker = opened()
    tracker.logged(row(1))
    tracker.finish(STUDENT)
    (before,) = runs()
    opened().finish(STUDENT)
    opened().failed(InputError("cannot write the student"))
    (after,) = runs()
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert after.data.metrics.keys() == before.data.metrics.keys()


def test_a_second_training_of_one_identity_has_its_own_run(client, opened, runs):
    tracker = opened()
    tracker.logged(row(1))
    tracker.finish(STUDENT)
    tracker = opened()
    tracker.logged(row(1) | {"generator_loss": 7.0})
    other = dataclasses.replace(STUDENT, seconds=9.0)
    tracker.finish(other)
    first, second = runs()
    assert points(client, first, "generator_loss") == [(16, 1.5)]
    assert points(client, second, "generator_loss") == [(16, 7.0)]
    assert [run.data.tags[STUDENT_TAG] for run in (first, second)] == [STUDENT.digest, other.digest]
    # Nothing was trained, and yet it is another student, such as one exported by a later version.
    third = dataclasses.replace(STUDENT, package_sha256="9" * 64)
    opened().finish(third)
    assert [run.data.tags[STUDENT_TAG] for run in runs()] == [STUDENT.digest, other.digest, third.digest]
    assert {run.info.status for run in runs()} == {"FINISHED"}


def test_a_killed_end_is_made_good(client, opened, runs):
    """Killed between the student's digest and the status."""
    tracker = opened()
    tracker.logged(row(1))
    tracker.finish(STUDENT)
    client.update_run(runs()[0].info.run_id, status="RUNNING")
    opened().finish(STUDENT)
    (run,) = runs()
    assert run.info.status == "FINISHED"


def test_a_run_that_vanishes_stops_nothing(client, opened, runs, reports, monkeypatch):
    monkeypatch.setattr("sidlsg.registry.tracking.tracker.PATIENCE", 0.5)
    tracker = opened()
    client.delete_run(runs()[0].info.run_id)
    tracker.logged(row(1))
    tracker.finish(STUDENT)
    assert reports[0].startswith("MLflow takes nothing now (")
    assert reports[1:] == [
        "MLflow did not take the last 2 entries of this training; registering the student adds what the run lacks"
    ]
