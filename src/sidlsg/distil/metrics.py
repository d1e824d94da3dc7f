"""A training's metrics for Prometheus: how far it is, how fast, and what is wrong with it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from PIL import Image

from sidlsg.distil.recipes import Recipe
from sidlsg.distil.sampler import UPDATES
from sidlsg.distil.state import Row
from sidlsg.runtime.metrics import Destinations, Pusher, destinations, served
from sidlsg.runtime.provenance import pipeline_run

LABELS = ("run", "recipe")
"""On every metric: the id of the pipeline run, empty where there is none, and the recipe's name."""
GAUGES = {
    "active": "1 while the stage runs, 0 in the last push",
    "images_seen": "Images of the whole training, restarts included",
    "images_per_second": "Of the newest row of the training log",
    "nan_share": "Share of non-finite samples, which left the loss, since the row before",
    "last_iteration_timestamp_seconds": "When the last iteration ended; before the first, when this began",
    "last_checkpoint_timestamp_seconds": "When the last one was written; before the first, when this began",
}
COUNTERS = {
    "images": "Images that this process trained on",
    "iterations": "Iterations that this process did",
    "checkpoints": "Checkpoints that were written",
}


class TrainingMetrics:
    """An observer that keeps the newest numbers in its own registry.

    Counters count what this process did, as Prometheus expects: they begin at 0 in one that resumes a checkpoint.
    """

    def __init__(
        self, recipe: str, batch: int, gateway: str = "", report: Callable[[str], None] = lambda _: None
    ) -> None:
        """Metrics of a recipe, by its name and batch; `gateway` is a Pushgateway's address, or empty."""
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        self.run = pipeline_run()
        self._batch, self._own, self._gateway, self._report = batch, (self.run, recipe), gateway, report
        self._pusher: Pusher | None = None

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"sidlsg_training_{name}", text, [*LABELS, *labels], registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"sidlsg_training_{name}", text, [*LABELS, *labels], registry=self.registry)

        self._info = gauge("info", "1, with the names that MLflow and the checkpoints have", "training", "mlflow_run")
        self._alarms = counter("alarms", "Alarms that went off, each kind once", "alarm")
        self._loss = gauge("loss", "Of the newest row of the training log", "network")
        self._values = {name: gauge(name, text).labels(*self._own) for name, text in GAUGES.items()}
        self._counts = {name: counter(name, text).labels(*self._own) for name, text in COUNTERS.items()}
        self._values["active"].set(1)
        for name in ("last_iteration_timestamp_seconds", "last_checkpoint_timestamp_seconds"):
            self._values[name].set(time.time())

    def named(self, training: str, mlflow_run: str) -> None:
        """Set the name of the checkpoints, and the MLflow run's id if any, and begin to push.

        A group on a Pushgateway is one training of one run.
        """
        self._info.labels(*self._own, training, mlflow_run).set(1)
        if self._gateway and self._pusher is None:
            group = {"run": self.run, "training": training}
            self._pusher = Pusher(self.registry, self._gateway, group, self._report)

    def iterated(self, images_seen: int) -> None:
        """Count an iteration."""
        self._counts["iterations"].inc()
        self._counts["images"].inc(self._batch)
        self._values["images_seen"].set(images_seen)
        self._values["last_iteration_timestamp_seconds"].set(time.time())

    def logged(self, row: Row) -> None:
        """Take a row's numbers, which have been read from the device already."""
        for network in UPDATES:
            self._loss.labels(*self._own, network).set(row.get(f"{network}_loss", math.nan))
        for name in ("images_per_second", "nan_share"):
            self._values[name].set(row[name])

    def sampled(self, images_seen: int, grid: Image.Image) -> None:
        """Ignored: grids are not metrics."""

    def evaluated(self, row: Row) -> None:
        """Scores go to MLflow, with their protocols."""

    def alarmed(self, alarm: str) -> None:
        """Count an alarm."""
        self._alarms.labels(*self._own, alarm).inc()

    def saved(self) -> None:
        """Count a checkpoint."""
        self._counts["checkpoints"].inc()
        self._values["last_checkpoint_timestamp_seconds"].set(time.time())

    def ended(self) -> None:
        """The stage is over, well or not: push a last time."""
        self._values["active"].set(0)
        if self._pusher is not None:
            self._pusher.close()


@contextlib.contextmanager
def exposed(recipe: Recipe, report: Callable[[str], None]) -> Iterator[TrainingMetrics | None]:
    """Serve and push a training's metrics while the block runs; None where the environment asks for neither.

    `report` receives lines from another thread too.

    Raises:
        InputError: a value of the environment cannot be used.
    """
    where = destinations()
    if where == Destinations():
        yield None
        return
    metrics = TrainingMetrics(recipe.name, recipe.batch, where.gateway, report)
    with served(metrics.registry, where.port):
        try:
            yield metrics
        finally:
            metrics.ended()
