"""What a student's MLflow run holds: parameters, tags, the training log, scores, sample grids and the model card.

Everything here can be written twice with the effect of once, so that an interrupted run is simply continued, and so
that what was logged while the student was trained stays.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from sidlsg.registry.package import CARD
from sidlsg.registry.run_inputs import training_inputs
from sidlsg.registry.versions import STUDENT_TAG
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.records import FileRef, Licence, Student

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


GRID_KEY = "samples"
SECONDS_TAG = "training_seconds"
"""The tag that says how long the training took, restarts added up."""
_STEP_FIELDS = ("iteration", "images_seen")
_ENTRIES_A_BATCH = 100
"""MLflow's limit of parameters and tags for one request."""

Row = tuple[int, dict[str, float]]
"""Images seen, and the numbers logged there."""


def run_tags(student: Student) -> dict[str, str]:
    """The tags that a run and a version share: whose they are, and what went into it."""
    return {
        STUDENT_TAG: student.digest,
        "teacher_sha256": student.teacher_sha256,
        "prompts_sha256": student.prompts_sha256,
        "package_sha256": student.package_sha256,
        "recipe": student.recipe,
        "strategy": student.strategy,
        "hardware": student.hardware,
        "kappas": ", ".join(f"{kappa:g}" for kappa in student.kappas),
        "images_seen": str(student.images_seen),
        SECONDS_TAG: f"{student.seconds:.1f}",
        **licence_tags(student.licence),
        **{name: value for name, value in (("git_commit", student.git_commit), ("image", student.image)) if value},
    }


def licence_tags(licence: Licence) -> dict[str, str]:
    """The tags that name a licence; none where it is not known."""
    tags = {"license": licence.name, "license_link": licence.link}
    return {name: value for name, value in tags.items() if value}


def run_params(student: Student) -> dict[str, str]:
    """The recipe's values, nested names joined by dots, and the record's own where both name a thing."""
    return recipe_params(
        student.recipe_values,
        recipe=student.recipe,
        strategy=student.strategy,
        kappas=student.kappas,
        seed=student.seed,
        t_init=student.t_init,
    )


def recipe_params(
    values: Mapping[str, Any],
    *,
    recipe: str,
    strategy: str,
    kappas: tuple[float, float, float, float],
    seed: int,
    t_init: int,
) -> dict[str, str]:
    """The parameters of a run that has, or will have, a student of such a recipe."""
    scales = {f"kappa{i}": kappa for i, kappa in enumerate(kappas, start=1)}
    own = {"recipe": recipe, "strategy": strategy, "seed": seed, "t_init": t_init}
    merged = {**_flat(values), **own, **scales}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in merged.items()}


def row_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of the training log that become metrics, by metric."""
    return {name: float(value) for name, value in row.items() if name not in _STEP_FIELDS and _is_number(value)}


def score_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The scores of an evaluation during training that become metrics, by metric: `eval/` and the score's name."""
    return {"eval/" + re.sub(r"[^\w\-. :/]", "_", name): value for name, value in row_values(row).items()}


def training_rows(student: Student, folder: Path) -> list[Row]:
    """Read the training log.

    Raises:
        InputError: a line is not a JSON object with a whole number `images_seen`.
    """
    return [(step, row_values(row)) for step, row in _read_rows(student.training_log, folder)]


def evaluation_rows(student: Student, folder: Path) -> list[Row]:
    """Read the scores that were computed during training; none where the student has none.

    Raises:
        InputError: a line is not a JSON object with a whole number `images_seen`.
    """
    if student.evaluations is None:
        return []
    return [(step, score_values(row)) for step, row in _read_rows(student.evaluations, folder)]


def grid_steps(student: Student, folder: Path) -> list[tuple[int, Path]]:
    """Images seen and file of each sample grid.

    Raises:
        InputError: a grid's file is not named by images seen.
    """
    paths = [folder / ref.path for ref in student.grids]
    for path in paths:
        if not path.stem.isdecimal():
            raise InputError(
                f"{path} is not named by images seen (such as grids/0004096.png); export the student again"
            )
    return [(int(path.stem), path) for path in paths]


def log_student(client: MlflowClient, run: Any, student: Student, folder: Path, teacher: str = "") -> None:
    """Write everything but the model to the student's run, as far as it is not there.

    Args:
        client: of the registry.
        run: the student's.
        student: its record.
        folder: its files.
        teacher: see `training_inputs`.
    """
    run_id = run.info.run_id
    now = client.get_run(run_id)
    log_missing_params(client, now, run_params(student))
    # One timestamp for the whole run: when two callers race, a row that both log is one row to MLflow.
    rows = training_rows(student, folder) + evaluation_rows(student, folder)
    Points(client, now).write(
        [Metric(name, value, run.info.start_time, step) for step, values in rows for name, value in values.items()]
    )
    logged = logged_grids(client, run_id)
    for step, path in grid_steps(student, folder):
        if step not in logged:
            with Image.open(path) as image:
                client.log_image(run_id, image, key=GRID_KEY, step=step)
    client.log_artifact(run_id, str(folder / CARD))
    client.log_inputs(run_id, training_inputs(student, student.prompt_set(folder), teacher))


def logged_grids(client: MlflowClient, run_id: str) -> set[int]:
    """The steps of which the run has a grid."""
    # MLflow gives each image a random name with its key and step inside.
    found = (
        re.search(rf"{GRID_KEY}\+step\+(\d+)\+.*\.png$", file.path) for file in client.list_artifacts(run_id, "images")
    )
    return {int(match[1]) for match in found if match}


def log_missing_params(client: MlflowClient, run: Any, params: Mapping[str, str]) -> None:
    """Log the parameters that the run does not have: MLflow refuses to change one."""
    log_entries(client, run.info.run_id, params={k: v for k, v in params.items() if k not in run.data.params})


def log_entries(
    client: MlflowClient, run_id: str, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None
) -> None:
    """Log any number of parameters and tags, in requests of the allowed size."""
    entries = [Param(k, v) for k, v in (params or {}).items()] + [RunTag(k, v) for k, v in (tags or {}).items()]
    for start in range(0, len(entries), _ENTRIES_A_BATCH):
        part = entries[start : start + _ENTRIES_A_BATCH]
        client.log_batch(
            run_id,
            params=[entry for entry in part if isinstance(entry, Param)],
            tags=[entry for entry in part if isinstance(entry, RunTag)],
        )


def _read_rows(file: FileRef, folder: Path) -> list[tuple[int, dict[str, Any]]]:
    path = folder / file.path
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = parse_json(line)
            step = row["images_seen"]
        except (ValueError, TypeError, KeyError):
            step = None
        if type(step) is not int:
            raise InputError(
                f"{path} line {number} is not a JSON object with a whole number images_seen; run the distil stage again"
            )
        rows.append((step, row))
    return rows


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
