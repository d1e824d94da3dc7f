"""The points of a run's metrics: each metric has at most one a step, whoever writes it and how often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric

_METRICS_A_BATCH = 1000
"""MLflow's limit for one request."""


class Points:
    """Writes the metrics of one run.

    MLflow keeps two points of one step side by side, and none can be deleted. A training run that was killed logs
    again what came after its last checkpoint, with other times and, on a GPU, other last digits; so the step is what
    counts, and the first point of a step stays.
    """

    def __init__(self, client: MlflowClient, run: Any) -> None:
        """Write to `run` as MLflow gives it now: a metric that it does not have yet is not asked for."""
        self._client = client
        self._run_id: str = run.info.run_id
        self._unread = set(run.data.metrics)
        self._steps: dict[str, set[int]] = defaultdict(set)

    def write(self, metrics: Sequence[Metric]) -> None:
        """Log those points whose step the metric does not have.

        Trying again after an error adds nothing twice: a request that was carried out though its answer got lost is
        the same point to MLflow, if it has the same timestamp and value.
        """
        new = {(metric.key, metric.step): metric for metric in reversed(metrics) if not self._has(metric)}
        left = list(reversed(new.values()))
        for start in range(0, len(left), _METRICS_A_BATCH):
            part = left[start : start + _METRICS_A_BATCH]
            self._client.log_batch(self._run_id, metrics=part)
            for metric in part:
                self._steps[metric.key].add(metric.step)

    def _has(self, metric: Metric) -> bool:
        if metric.key in self._unread:
            history = self._client.get_metric_history(self._run_id, metric.key)
            self._steps[metric.key].update(point.step for point in history)
            self._unread.remove(metric.key)
        return metric.step in self._steps[metric.key]
