"""Logs a training to MLflow while it runs, without ever making it wait or fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from PIL import Image

from sidlsg.registry.connection import connect, experiment_id
from sidlsg.registry.run_log import (
    GRID_KEY,
    MetricWriter,
    log_entries,
    logged_grids,
    row_values,
    run_tags,
    score_values,
)
from sidlsg.registry.tracking.runs import GIVEN_TAG, Training, find_or_make_run, given_run, make_run, take_given_run
from sidlsg.registry.tracking.sender import Sender
from sidlsg.registry.versions import STUDENT_TAG
from sidlsg.runtime.errors import InputError, StoppedError, first_line
from sidlsg.runtime.provenance import run_tag
from sidlsg.storage.records import Student

FINISHED = "FINISHED"
PATIENCE = 60.0
"""Seconds that a finished training waits for a server that does not answer."""
PATIENCE_STOPPED = 10.0
"""The same for a stopped training, which may soon be killed."""


@dataclass(frozen=True)
class LoggedGrid:
    """A sample grid at one step."""

    step: int
    image: Image.Image


@dataclass(frozen=True)
class Ending:
    """The end of the training."""

    status: str
    tags: Mapping[str, str] = field(default_factory=dict)


Entry = list[Metric] | LoggedGrid | Ending
"""A row of metrics, whose timestamp is the same at each retry, so that MLflow recognises the points; or another."""


class RunWriter:
    """Writes to one run; everything can be written twice with the effect of once."""

    def __init__(self, client: MlflowClient, run: Any, make_another: Callable[[], Any]) -> None:
        """Take the run as MLflow returns it now; where it has a student, another student's training gets another."""
        self._client, self._make_another = client, make_another
        self._take(run)

    def write(self, entries: Sequence[Entry]) -> None:
        """Write numbers first and endings last; whatever MLflow raises, a retry is safe."""
        metrics = [metric for entry in entries if isinstance(entry, list) for metric in entry]
        grids = [entry for entry in entries if isinstance(entry, LoggedGrid)]
        endings = [entry for entry in entries if isinstance(entry, Ending)]
        is_others = any(ending.tags.get(STUDENT_TAG, self._student) != self._student for ending in endings)
        if self._student and not self._is_given and (metrics or grids or is_others):
            self._take(self._make_another())
        self._metrics.write(metrics)
        logged = logged_grids(self._client, self._run_id) if grids else set()
        for grid in grids:
            if grid.step not in logged:
                self._client.log_image(self._run_id, grid.image, key=GRID_KEY, step=grid.step)
                logged.add(grid.step)
        for ending in endings:
            log_entries(self._client, self._run_id, tags=ending.tags)
            # A run that has its student is finished already, and keeps its end time.
            if not self._is_given and not (self._student and ending.status != FINISHED):
                self._client.set_terminated(self._run_id, ending.status, self._end_time if self._student else None)

    def _take(self, run: Any) -> None:
        self._run_id, self._end_time = run.info.run_id, run.info.end_time
        self._is_given = GIVEN_TAG in run.data.tags
        self._student = run.data.tags.get(STUDENT_TAG, "")
        self._metrics = MetricWriter(self._client, run)


class MlflowTracker:
    """An observer that logs rows, scores and grids to one MLflow run, by images seen.

    Entries that could not be sent when the training ends are not lost: `register` takes them from the student's log.
    """

    def __init__(
        self,
        sender: Sender[Entry],
        report: Callable[[str], None],
        mfu: Callable[[float], float] | None = None,
        run_id: str = "",
    ) -> None:
        """See `open_tracker`; `run_id` is that of the run as it was opened."""
        self._sender, self._report, self._mfu = sender, report, mfu
        self.run_id = run_id

    def iterated(self, images_seen: int) -> None:
        """Do nothing: MLflow gets the rows of the log."""

    def logged(self, row: Mapping[str, float]) -> None:
        """Send a row of the training log, and `mfu` where the device's peak is known."""
        values = row_values(row)
        if self._mfu is not None:
            values["mfu"] = self._mfu(values["images_per_second"])
        self._send(row, values)

    def sampled(self, images_seen: int, grid: Image.Image) -> None:
        """Send a grid."""
        self._sender.put(LoggedGrid(images_seen, grid))

    def evaluated(self, row: Mapping[str, float]) -> None:
        """Send scores, as `eval/` and their names."""
        self._send(row, score_values(row))

    def finish(self, student: Student) -> None:
        """Send the rest and the student's tags, so that `register` continues with this run."""
        self._close(Ending(FINISHED, run_tags(student)), PATIENCE)

    def failed(self, error: BaseException) -> None:
        """Send the rest and an early end; the same training resumes the run."""
        stopped = isinstance(error, StoppedError | KeyboardInterrupt)
        self._close(Ending("KILLED" if stopped else "FAILED"), PATIENCE_STOPPED)

    def _send(self, row: Mapping[str, float], values: Mapping[str, float]) -> None:
        now, step = int(time.time() * 1000), int(row["images_seen"])
        self._sender.put([Metric(name, value, now, step) for name, value in values.items()])

    def _close(self, ending: Ending, patience: float) -> None:
        left = self._sender.close([ending], patience)
        if left:
            self._report(
                f"MLflow did not take the last {left} entries of this training; "
                "registering the student adds what the run lacks"
            )


def open_tracker(
    tracking_uri: str,
    experiment: str,
    training: Training,
    report: Callable[[str], None],
    mfu: Callable[[float], float] | None = None,
) -> MlflowTracker:
    """Open the MLflow run of a training: the given one, the one that it had before it was stopped, or a new one.

    Args:
        tracking_uri: see `tracking_address` and `connect`.
        experiment: the experiment of a new run, created if there is none. A given run stays in its own.
        training: its key, name, digests and parameters.
        report: receives lines for the user, also from another thread.
        mfu: the model FLOPs utilisation at a throughput in images/s; None where the device's peak is not known.

    Raises:
        InputError: MLflow cannot be reached, or the given run cannot be used.
    """
    # The sender retries by itself; MLflow's own retries would take minutes before the first report.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    given = given_run()
    client = connect(tracking_uri, create=not given)
    try:
        if given:
            run = take_given_run(client, given, training)
        else:
            run = find_or_make_run(client, experiment_id(client, experiment), training)
            if STUDENT_TAG not in run.data.tags:
                client.update_run(run.info.run_id, status="RUNNING")
                # Another pipeline run may resume the training of an earlier one.
                log_entries(client, run.info.run_id, tags=run_tag())
    except (MlflowException, OSError) as error:
        raise InputError(
            f"MLflow does not open a run for this training ({first_line(error)}); "
            "see to the server or give another tracking URI, or train without tracking"
        ) from error
    writer = RunWriter(client, run, partial(make_run, client, run.info.experiment_id, training))
    return MlflowTracker(Sender(writer.write, report), report, mfu, run.info.run_id)
