"""What a student's MLflow run holds: parameters, tags, the training log, sample grids and the model card.

Everything here can be written twice with the effect of once, so that an interrupted run is simply continued.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from sidlsg.errors import InputError
from sidlsg.records import Student
from sidlsg.registry.package import CARD
from sidlsg.registry.versions import STUDENT_TAG

GRID_KEY = "samples"
_STEP_FIELDS = ("iteration", "images_seen")
_METRICS_A_BATCH = 1000
_ENTRIES_A_BATCH = 100
"""MLflow's limits for one request."""

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
    }


def run_params(student: Student) -> dict[str, str]:
    """The recipe's values, nested names joined by dots, and the record's own where both name a thing."""
    kappas = {f"kappa{i}": kappa for i, kappa in enumerate(student.kappas, start=1)}
    own = {"recipe": student.recipe, "strategy": student.strategy, "seed": student.seed, "t_init": student.t_init}
    values = {**_flat(student.recipe_values), **own, **kappas}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def training_rows(student: Student, folder: Path) -> list[Row]:
    """Read the training log.

    Raises:
        InputError: a line is not a JSON object with a whole number `images_seen`.
    """
    path = folder / student.training_log.path
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            step = row["images_seen"]
        except (ValueError, TypeError, KeyError):
            step = None
        if type(step) is not int:
            raise InputError(
                f"{path} line {number} is not a JSON object with a whole number images_seen; run the distil stage again"
            )
        rows.append((step, {k: float(v) for k, v in row.items() if k not in _STEP_FIELDS and _is_number(v)}))
    return rows


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


def log_student(client: MlflowClient, run: Any, student: Student, folder: Path) -> None:
    """Write everything but the model to the student's run."""
    run_id = run.info.run_id
    log_entries(client, run_id, params=run_params(student))
    # One timestamp for the whole run: a row that is logged again is the same row to MLflow, not a second one.
    metrics = [
        Metric(name, value, run.info.start_time, step)
        for step, values in training_rows(student, folder)
        for name, value in values.items()
    ]
    for start in range(0, len(metrics), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
    logged = [file.path for file in client.list_artifacts(run_id, "images")]
    for step, path in grid_steps(student, folder):
        # MLflow gives each image a random name with its key and step inside.
        if not any(f"{GRID_KEY}+step+{step}+" in name for name in logged):
            with Image.open(path) as image:
                client.log_image(run_id, image, key=GRID_KEY, step=step)
    client.log_artifact(run_id, str(folder / CARD))


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
