"""Tells MLflow of a training run while it goes on, without ever making it wait or fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from PIL import Image

from sidlsg.registry.connection import connect, experiment_id
from sidlsg.registry.run_log import (
    GRID_KEY,
    Points,
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


@dataclass(frozen=True)
class Numbers:
    """Values of metrics at one step, and when they were taken."""

    step: int
    values: Mapping[str, float]
    timestamp: int
    """Milliseconds since 1970; the same at each try, by which MLflow knows a point again."""


@dataclass(frozen=True)
class LoggedGrid:
    """A sample grid at one step."""

    step: int
    image: Image.Image


@dataclass(frozen=True)
class Ending:
    """How the training ended."""

    status: str
    tags: Mapping[str, str] = field(default_factory=dict)


Entry = Numbers | LoggedGrid | Ending


class Writer:
    """Writes to one run; each thing can be written twice with the effect of once."""

    def __init__(self, client: MlflowClient, run: Any, make_another: Callable[[], Any]) -> None:
        """Args:
        client: of the server.
        run: as MLflow gives it now.
        make_another: makes a run to go on with where `run` has a student already, and another one is to come.
        """
        self._client, self._make_another = client, make_another
        self._take(run)

    def write(self, entries: Sequence[Entry]) -> None:
        """Write them, numbers first and endings last.

        Raises:
            Exception: whatever MLflow raises; try again later.
        """
        numbers = [entry for entry in entries if isinstance(entry, Numbers)]
        pictures = [entry for entry in entries if isinstance(entry, LoggedGrid)]
        endings = [entry for entry in entries if isinstance(entry, Ending)]
        others = [ending for ending in endings if ending.tags.get(STUDENT_TAG, self._student) != self._student]
        if self._student and not self._is_given and (numbers or pictures or others):
            self._take(self._make_another())
        self._points.write(
            [
                Metric(name, value, entry.timestamp, entry.step)
                for entry in numbers
                for name, value in entry.values.items()
            ]
        )
        self._draw(pictures)
        for ending in endings:
            self._end(ending)

    def _take(self, run: Any) -> None:
        self._run = run
        self._is_given = GIVEN_TAG in run.data.tags
        self._student = run.data.tags.get(STUDENT_TAG, "")
        self._points = Points(self._client, run)

    def _end(self, ending: Ending) -> None:
        run_id = self._run.info.run_id
        log_entries(self._client, run_id, tags=ending.tags)
        # A run that has its student came to a good end already, at a time that stays.
        if not self._is_given and not (self._student and ending.status != FINISHED):
            self._client.set_terminated(run_id, ending.status, self._run.info.end_time if self._student else None)

    def _draw(self, pictures: Sequence[LoggedGrid]) -> None:
        run_id = self._run.info.run_id
        there = logged_grids(self._client, run_id) if pictures else set()
        for picture in pictures:
            if picture.step not in there:
                self._client.log_image(run_id, picture.image, key=GRID_KEY, step=picture.step)
                there.add(picture.step)


PATIENCE = 60.0
"""Seconds that a finished training waits for a server that does not answer."""
HASTE = 10.0
"""Seconds for one that was stopped: who asked it to end may soon do so by force."""


class MlflowTracker:
    """An observer that writes rows, scores and grids to one MLflow run, by images seen.

    What could not be sent when the training ends is not lost: `register` takes it from the student's log.
    """

    def __init__(
        self,
        sender: Sender[Entry],
        report: Callable[[str], None],
        mfu: Callable[[float], float] | None = None,
        run_id: str = "",
    ) -> None:
        """Args:
        sender: takes what is to be written.
        report: receives lines for the user.
        mfu: the model FLOPs utilisation at a speed in images/s; None where the device's peak is not known.
        run_id: of the MLflow run, as it was opened.
        """
        self._sender, self._report, self._mfu = sender, report, mfu
        self.run_id = run_id

    def iterated(self, images_seen: int) -> None:
        """MLflow has the rows of the log."""

    def logged(self, row: Mapping[str, float]) -> None:
        """Send a row of the training log, and `mfu` where the device's peak is known."""
        values = row_values(row)
        if self._mfu is not None:
            values["mfu"] = self._mfu(values["images_per_second"])
        self._send_numbers(row, values)

    def sampled(self, images_seen: int, grid: Image.Image) -> None:
        """Send a grid."""
        self._sender.put(LoggedGrid(images_seen, grid))

    def evaluated(self, row: Mapping[str, float]) -> None:
        """Send scores, as `eval/` and their names."""
        self._send_numbers(row, score_values(row))

    def finish(self, student: Student) -> None:
        """Send what is left and write down which student came of it, so that `register` goes on with this run."""
        self._close(Ending(FINISHED, run_tags(student)), PATIENCE)

    def failed(self, error: BaseException) -> None:
        """Send what is left and write down that the training ended early; the same training takes the run up again."""
        stopped = isinstance(error, StoppedError | KeyboardInterrupt)
        self._close(Ending("KILLED" if stopped else "FAILED"), HASTE)

    def _send_numbers(self, row: Mapping[str, float], values: Mapping[str, float]) -> None:
        self._sender.put(Numbers(int(row["images_seen"]), values, int(time.time() * 1000)))

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
        tracking_uri: where MLflow is, see `tracking_address` and `connect`.
        experiment: the experiment of a new run, made if there is none. A given run stays in its own.
        training: its key, name, digests and parameters.
        report: receives lines for the user, from another thread too.
        mfu: the model FLOPs utilisation at a speed in images/s; None where the device's peak is not known.

    Raises:
        InputError: MLflow cannot be reached, or the given run cannot be used.
    """
    # Whoever sends tries again by itself; MLflow's own tries would take minutes before a word is said of it.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    given = given_run()
    client = connect(tracking_uri, create=not given)
    try:
        if given:
            run = take_given_run(client, given, training)
            where = run.info.experiment_id
        else:
            where = experiment_id(client, tracking_uri, experiment)
            run = find_or_make_run(client, where, training)
            if STUDENT_TAG not in run.data.tags:
                client.update_run(run.info.run_id, status="RUNNING")
                # Another pipeline run may go on with what one before has left.
                log_entries(client, run.info.run_id, tags=run_tag())
    except (MlflowException, OSError) as error:
        reason = first_line(error)
        raise InputError(
            f"MLflow does not open a run for this training ({reason}); "
            "see to the server or give another tracking URI, or train without tracking"
        ) from error

    def another() -> Any:
        return make_run(client, where, training)

    writer = Writer(client, run, another)
    return MlflowTracker(Sender(writer.write, report), report, mfu, run.info.run_id)
