"""One point a step for each metric, whatever happened before."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, experiment_id
from sidlsg.registry.run_log import MetricWriter


@pytest.fixture
def client(tracking_uri):
    return connect(tracking_uri, create=True)


@pytest.fixture
def run(client, tracking_uri):
    return client.create_run(experiment_id(client, tracking_uri, "points"))


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
