"""Metrics of a training, and a page that lists all of them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sidlsg.distil.metrics import LABELS, TrainingMetrics, exposed
from sidlsg.distil.recipes import get_recipe
from sidlsg.webhooks.telemetry import WebhookMetrics
from unit.registry.tracking.gateway import Gateway

PAGE = Path(__file__).parents[3] / "docs" / "observe.md"
ROW = {
    "iteration": 2,
    "images_seen": 40,
    "generator_loss": 5.5,
    "fake_score_loss": 3.25,
    "images_per_second": 12.5,
    "nan_share": 0.125,
}


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> TrainingMetrics:
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", "run-7")
    return TrainingMetrics("tiny", 8)


def value(metrics: TrainingMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"sidlsg_training_{name}", {"run": "run-7", "recipe": "tiny", **labels})


def test_a_training_that_began_and_did_nothing_has_times(metrics: TrainingMetrics) -> None:
    assert value(metrics, "active") == 1
    assert value(metrics, "images_total") == value(metrics, "iterations_total") == 0
    for name in ("iteration", "checkpoint"):
        assert time.time() - 60 < (value(metrics, f"last_{name}_timestamp_seconds") or 0) <= time.time()


def test_iterations_rows_alarms_and_checkpoints_are_counted(metrics: TrainingMetrics) -> None:
    # It resumes at 32 images: counters are this process's, the gauge is the whole training's.
    metrics.iterated(40)
    metrics.iterated(48)
    metrics.logged(ROW)
    metrics.alarmed("latents-collapse")
    metrics.saved()
    metrics.ended()
    assert value(metrics, "iterations_total") == 2
    assert value(metrics, "images_total") == 16
    assert value(metrics, "images_seen") == 48
    assert value(metrics, "images_per_second") == 12.5
    assert value(metrics, "nan_share") == 0.125
    assert value(metrics, "loss", network="generator") == 5.5
    assert value(metrics, "loss", network="fake_score") == 3.25
    assert value(metrics, "alarms_total", alarm="latents-collapse") == 1
    assert value(metrics, "checkpoints_total") == 1
    assert value(metrics, "active") == 0


def test_a_group_is_one_training_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", "run-7")
    with Gateway() as gateway:
        metrics = TrainingMetrics("tiny", 8, gateway.address, print)
        metrics.named("tiny-0123", "abc")
        metrics.ended()
        (path,) = gateway.groups
        assert path == "/metrics/job/sidlsg-training/run/run-7/training/tiny-0123"
        assert 'mlflow_run="abc",recipe="tiny",run="run-7",training="tiny-0123"} 1.0' in gateway.groups[path]
        assert 'sidlsg_training_active{recipe="tiny",run="run-7"} 0.0' in gateway.groups[path]


def test_by_default_there_are_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIDLSG_METRICS_PORT", "SIDLSG_PUSHGATEWAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sidlsg.distil.metrics.TrainingMetrics", None)
    with exposed(get_recipe("tiny"), print) as found:
        assert found is None


def families(registry: CollectorRegistry) -> set[tuple[str, frozenset[str]]]:
    """Each name as Prometheus has it, with its labels."""
    return {
        (f"{name}_total" if kind == "counter" else name, frozenset(labels))
        for collector in registry._names_to_collectors.values()
        for name, kind, labels in [(collector._name, collector._type, collector._labelnames)]  # type: ignore[attr-defined]
    }


def test_the_page_lists_every_metric_with_its_labels(metrics: TrainingMetrics) -> None:
    rows = re.findall(r"^\| `(sidlsg_\w+)` \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    listed = [(name, frozenset(re.findall(r"`(\w+)`", labels))) for name, labels in rows]
    training = {(name, labels - set(LABELS)) for name, labels in families(metrics.registry)}
    assert set(listed) == training | families(WebhookMetrics().registry)
    assert len(listed) == len(set(listed))
