"""What Prometheus learns of a training: how far it is, how fast, and what is wrong with it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from sidlsg.distil.state import Row
from sidlsg.runtime.metrics import Destinations, Pusher, destinations, served
from sidlsg.runtime.provenance import pipeline_run

LABELS = ("run", "recipe")
"""On every metric: the id of the pipeline run, empty where there is none, and the recipe's name."""
NETWORKS = ("generator", "fake_score")


class TrainingMetrics:
    """An observer that keeps the newest numbers, in a registry of their own.

    Counters count what this process did, as Prometheus expects: one that goes on from a checkpoint begins at 0.
    """

    def __init__(self, recipe: str, batch: int) -> None:
        """Args:
        recipe: its name.
        batch: images of one iteration.
        """
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        self.run = pipeline_run()
        self._batch, self._own = batch, (self.run, recipe)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"sidlsg_training_{name}", text, [*LABELS, *labels], registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"sidlsg_training_{name}", text, [*LABELS, *labels], registry=self.registry)

        self._info = gauge("info", "1, with the names that MLflow and the checkpoints have", "training", "mlflow_run")
        self._alarms = counter("alarms", "Alarms that went off, each kind once", "alarm")
        self._loss = gauge("loss", "Of the newest row of the training log", "network")
        own = self._own
        self._active = gauge("active", "1 while the stage runs, 0 in the last push").labels(*own)
        self._images = counter("images", "Images that this process trained on").labels(*own)
        self._iterations = counter("iterations", "Iterations that this process did").labels(*own)
        self._images_seen = gauge("images_seen", "Images of the whole training, restarts included").labels(*own)
        self._speed = gauge("images_per_second", "Of the newest row of the training log").labels(*own)
        self._nan_share = gauge(
            "nan_share", "Samples that were not finite and left out, as a share, since the row before"
        ).labels(*own)
        self._iterated = gauge(
            "last_iteration_timestamp_seconds", "When the last iteration ended; before the first, when this began"
        ).labels(*own)
        self._checkpoints = counter("checkpoints", "Checkpoints that were written").labels(*own)
        self._saved = gauge(
            "last_checkpoint_timestamp_seconds", "When the last one was written; before the first, when this began"
        ).labels(*own)
        self._active.set(1)
        for gauge_ in (self._iterated, self._saved):
            gauge_.set(time.time())

    def named(self, training: str, mlflow_run: str) -> None:
        """Say which training this is.

        Args:
            training: the name of its checkpoints and of its MLflow run.
            mlflow_run: that run's id; empty where MLflow is not told.
        """
        self._info.labels(*self._own, training, mlflow_run).set(1)

    def iterated(self, images_seen: int) -> None:
        """Count an iteration."""
        self._iterations.inc()
        self._images.inc(self._batch)
        self._images_seen.set(images_seen)
        self._iterated.set(time.time())

    def logged(self, row: Row) -> None:
        """Take what the row says; its numbers have been read from the device already."""
        for network in NETWORKS:
            self._loss.labels(*self._own, network).set(row.get(f"{network}_loss", math.nan))
        self._speed.set(row["images_per_second"])
        self._nan_share.set(row["nan_share"])

    def sampled(self, images_seen: int, grid: Image.Image) -> None:
        """Pictures are no metrics."""

    def evaluated(self, row: Row) -> None:
        """Scores go to MLflow, with their protocols."""

    def alarmed(self, alarm: str) -> None:
        """Count an alarm."""
        self._alarms.labels(*self._own, alarm).inc()

    def saved(self) -> None:
        """Count a checkpoint."""
        self._checkpoints.inc()
        self._saved.set(time.time())

    def ended(self) -> None:
        """The stage is over, well or not."""
        self._active.set(0)


class Exposed:
    """A training's metrics, and the pushing of them once the training has a name."""

    def __init__(self, metrics: TrainingMetrics, where: Destinations, report: Callable[[str], None]) -> None:
        self.metrics = metrics
        self._where, self._report = where, report
        self._pusher: Pusher | None = None

    def named(self, training: str, mlflow_run: str) -> None:
        """Say which training this is, and begin to push: a group on a Pushgateway is one training of one run."""
        self.metrics.named(training, mlflow_run)
        if self._where.gateway and self._pusher is None:
            group = {"run": self.metrics.run, "training": training}
            self._pusher = Pusher(self.metrics.registry, self._where.gateway, group, self._report)

    def close(self) -> None:
        """Push a last time."""
        self.metrics.ended()
        if self._pusher is not None:
            self._pusher.close()


@contextlib.contextmanager
def exposed(recipe: Any, report: Callable[[str], None]) -> Iterator[Exposed | None]:
    """Serve and push a training's metrics while the block runs; None where the environment asks for neither.

    Args:
        recipe: of the training.
        report: receives lines for the user, from another thread too.

    Raises:
        InputError: a value of the environment cannot be used.
    """
    where = destinations()
    if where == Destinations():
        yield None
        return
    found = Exposed(TrainingMetrics(recipe.name, recipe.batch), where, report)
    with served(found.metrics.registry, where.port):
        try:
            yield found
        finally:
            found.close()
