"""The training log and grids as metrics and images by step, one point a step whatever happened before."""

from __future__ import annotations

import dataclasses

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from PIL import Image

from sidlsg.registry.connection import connect, experiment_id
from sidlsg.registry.run_log import (
    MetricWriter,
    evaluation_rows,
    grid_steps,
    log_entries,
    log_student,
    run_params,
    training_rows,
)
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import FileRef, Student, file_ref


def test_rows_hold_numbers_by_images_seen(make_student):
    folder = make_student()
    (folder / "training_log.jsonl").write_text(
        '{"iteration": 7, "images_seen": 224, "generator_loss": 1, "ema": true, "device": "cpu"}\n'
    )
    assert training_rows(Student.load(folder), folder) == [(224, {"generator_loss": 1.0})]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"iteration": 1}', '{"images_seen": 1.5}'])
def test_a_row_without_images_seen_is_refused(make_student, line):
    folder = make_student()
    (folder / "training_log.jsonl").write_text('{"images_seen": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=r"line 2 of .*training_log\.jsonl"):
        training_rows(Student.load(folder), folder)


def with_evaluations(folder, text: str) -> Student:
    path = folder / "evaluations.jsonl"
    path.write_text(text)
    return dataclasses.replace(Student.load(folder), evaluations=file_ref(path, folder))


def test_scores_are_read_under_names_that_mlflow_can_hold(make_student):
    folder = make_student()
    assert evaluation_rows(Student.load(folder), folder) == []
    student = with_evaluations(folder, '{"iteration": 2, "images_seen": 64, "fid@504": 3.5, "colour distance": 1}\n')
    assert evaluation_rows(student, folder) == [(64, {"eval/fid_504": 3.5, "eval/colour distance": 1.0})]
    with pytest.raises(InputError, match=r"line 1 of .*evaluations\.jsonl"):
        evaluation_rows(with_evaluations(folder, '{"fid": 1}\n'), folder)


def test_a_grid_that_is_not_named_by_images_seen_is_refused(make_student):
    folder = make_student()
    student = dataclasses.replace(Student.load(folder), grids=(FileRef(path="grids/last.png", sha256="0" * 64),))
    with pytest.raises(InputError, match="not named by images seen"):
        grid_steps(student, folder)


def test_the_records_own_values_win_over_the_recipes(make_student):
    params = run_params(Student.load(make_student(seed=5)))
    assert params["seed"] == "5"  # the recipe of the fixture says 999


def test_more_entries_than_one_request_holds(tracking_uri, make_student):
    """MLflow takes 1000 metrics and 100 parameters a request; logging everything twice adds nothing."""
    client = connect(tracking_uri, create=True)
    run = client.create_run(experiment_id(client, "long-log"))
    folder = make_student()
    rows = "".join(f'{{"images_seen": {i}, "loss": {i}.5, "speed": 2}}\n' for i in range(700))
    (folder / "training_log.jsonl").write_text(rows)
    values = {f"value{i}": i for i in range(150)}
    student = dataclasses.replace(Student.load(folder), recipe_values=values)
    for _ in range(2):
        log_student(client, run, student, folder)
    log_entries(client, run.info.run_id, tags={f"tag{i}": "x" for i in range(150)})

    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(i, i + 0.5) for i in range(700)]
    assert len(client.get_metric_history(run.info.run_id, "speed")) == 700
    data = client.get_run(run.info.run_id).data
    assert {name: data.params[name] for name in values} == {name: str(i) for name, i in values.items()}
    assert sum(name.startswith("tag") for name in data.tags) == 150
    assert len([f for f in client.list_artifacts(run.info.run_id, "images") if f.path.endswith(".png")]) == 2


def test_only_what_the_run_lacks_is_added(tracking_uri, make_student):
    """The run was followed live, by its own clock, and a pipeline server had set a parameter."""
    client = connect(tracking_uri, create=True)
    run_id = client.create_run(experiment_id(client, "followed-live")).info.run_id
    folder = make_student(seed=8)
    student = with_evaluations(folder, '{"images_seen": 32, "fid": 9}\n{"images_seen": 64, "fid": 4}\n')
    client.log_metric(run_id, "fake_score_loss", 3.25, timestamp=123, step=32)
    client.log_metric(run_id, "eval/fid", 9.0, timestamp=456, step=32)
    client.log_metric(run_id, "mfu", 0.25, timestamp=123, step=32)
    client.log_param(run_id, "seed", "of the pipeline")
    client.log_image(run_id, Image.new("RGB", (8, 8)), key="samples", step=64)
    log_student(client, client.get_run(run_id), student, folder)

    def points(name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]

    assert points("fake_score_loss") == [(32, 3.25), (64, 2.5)]
    assert points("eval/fid") == [(32, 9.0), (64, 4.0)]
    assert points("mfu") == [(32, 0.25)]
    params = client.get_run(run_id).data.params
    assert params["seed"] == "of the pipeline"
    assert params["lr"] == "0.0001"
    images = [file.path for file in client.list_artifacts(run_id, "images") if file.path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in images) == ["32", "64"]


@pytest.fixture
def run(client):
    return client.create_run(experiment_id(client, "points"))


def points(client, run, name):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def test_the_first_point_of_a_step_stays(client, run):
    MetricWriter(client, run).write([Metric("a", 1.0, 10, 1), Metric("a", 7.0, 12, 1), Metric("b", 2.0, 10, 1)])
    later = MetricWriter(client, client.get_run(run.info.run_id))
    later.write([Metric("a", 9.0, 20, 1), Metric("a", 3.0, 20, 2)])
    later.write([Metric("a", 8.0, 30, 2), Metric("c", 4.0, 30, 1), Metric("b", 5.0, 30, 2)])
    assert points(client, run, "a") == [(1, 1.0), (2, 3.0)]
    assert points(client, run, "b") == [(1, 2.0), (2, 5.0)]
    assert points(client, run, "c") == [(1, 4.0)]


def test_more_points_than_a_request_holds(client, run):
    MetricWriter(client, run).write([Metric("many", float(step), 10, step) for step in range(2500)])
    assert points(client, run, "many") == [(step, float(step)) for step in range(2500)]


@pytest.mark.parametrize("arrived", [True, False])
def test_trying_again_adds_nothing_twice(client, run, monkeypatch, arrived):
    """The answer to the second request gets lost, with the request or after it was carried out."""
    original, requests = MlflowClient.log_batch, []

    def unreliable(self, run_id, metrics):
        requests.append(len(metrics))
        if arrived or len(requests) != 2:
            original(self, run_id, metrics=metrics)
        if len(requests) == 2:
            raise MlflowException("connection reset")

    monkeypatch.setattr(MlflowClient, "log_batch", unreliable)
    written, metrics = MetricWriter(client, run), [Metric("a", float("nan"), 10, step) for step in range(1500)]
    with pytest.raises(MlflowException):
        written.write(metrics)
    written.write(metrics)
    assert requests == [1000, 500, 500]
    assert [step for step, _ in points(client, run, "a")] == list(range(1500))
