"""What a training run sends, written to its MLflow run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from sidlsg.registry.points import Points
from sidlsg.registry.run_log import GRID_KEY, log_entries, logged_grids
from sidlsg.registry.tracking.runs import GIVEN_TAG
from sidlsg.registry.versions import STUDENT_TAG

FINISHED = "FINISHED"


@dataclass(frozen=True)
class Numbers:
    """Values of metrics at one step, and when they were taken."""

    step: int
    values: Mapping[str, float]
    timestamp: int
    """Milliseconds since 1970; the same at each try, by which MLflow knows a point again."""


@dataclass(frozen=True)
class Picture:
    """A sample grid at one step."""

    step: int
    image: Image.Image


@dataclass(frozen=True)
class Ending:
    """How the training ended."""

    status: str
    tags: Mapping[str, str] = field(default_factory=dict)


Entry = Numbers | Picture | Ending


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
        pictures = [entry for entry in entries if isinstance(entry, Picture)]
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

    def _draw(self, pictures: Sequence[Picture]) -> None:
        run_id = self._run.info.run_id
        there = logged_grids(self._client, run_id) if pictures else set()
        for picture in pictures:
            if picture.step not in there:
                self._client.log_image(run_id, picture.image, key=GRID_KEY, step=picture.step)
                there.add(picture.step)
