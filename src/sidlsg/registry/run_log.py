"""The content of a student's MLflow run: parameters, tags, dataset inputs, training log, scores and sample grids.

Everything here can be written twice with the effect of once, so that an interrupted run is resumed, and what was
logged during the training stays.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from PIL import Image

from sidlsg.registry.files import artifacts
from sidlsg.registry.package import CARD
from sidlsg.registry.versions import STUDENT_TAG
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_log
from sidlsg.storage.records import FileRef, Licence, PromptSet, Student
from sidlsg.storage.uri import split_pin

GRID_KEY = "samples"
SECONDS_TAG = "training_seconds"
"""Duration of the training, restarts added up."""
TEACHER, HELD_OUT, JUDGE = "teacher", "held-out captions", "judge"
"""Names of dataset inputs."""
_STEP_FIELDS = ("iteration", "images_seen")
_METRICS_PER_REQUEST, _ENTRIES_PER_REQUEST, _DIGEST_LENGTH = 1000, 100, 36
"""MLflow's limits: metrics of one request, parameters and tags each of one, and characters of a dataset's digest."""

Row = tuple[int, dict[str, float]]
"""Images seen, and the numbers logged there."""


class MetricWriter:
    """Writes the metrics of one run, one point a step.

    MLflow keeps two points of one step side by side, and none can be deleted. A training that was killed logs again
    what came after its last checkpoint, with other times and, on a GPU, other last digits; so the first point of a step
    stays.
    """

    def __init__(self, client: MlflowClient, run: Any) -> None:
        """Take the run as MLflow returns it now: only the metrics that it has are read."""
        self._client = client
        self._run_id: str = run.info.run_id
        self._unread = set(run.data.metrics)
        self._steps: dict[str, set[int]] = defaultdict(set)

    def write(self, metrics: Sequence[Metric]) -> None:
        """Log the points whose step the metric does not have; a retry adds nothing twice."""
        new = {(metric.key, metric.step): metric for metric in reversed(metrics) if not self._has(metric)}
        points = list(reversed(new.values()))
        for start in range(0, len(points), _METRICS_PER_REQUEST):
            part = points[start : start + _METRICS_PER_REQUEST]
            self._client.log_batch(self._run_id, metrics=part)
            for metric in part:
                self._steps[metric.key].add(metric.step)

    def _has(self, metric: Metric) -> bool:
        if metric.key in self._unread:
            history = self._client.get_metric_history(self._run_id, metric.key)
            self._steps[metric.key].update(point.step for point in history)
            self._unread.remove(metric.key)
        return metric.step in self._steps[metric.key]


def run_tags(student: Student) -> dict[str, str]:
    """The tags that a student's run and version share."""
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
    """The parameters of a student's run."""
    return recipe_params(
        student.recipe_values,
        recipe=student.recipe,
        strategy=student.strategy,
        kappas=student.kappas,
        seed=student.seed,
        t_init=student.t_init,
    )


def recipe_params(values: Mapping[str, Any], *, kappas: Sequence[float], **own: str | int) -> dict[str, str]:
    """The parameters of a run: the recipe's values, nested names joined by dots, overridden by the student's own."""
    scales = {f"kappa{i}": kappa for i, kappa in enumerate(kappas, start=1)}
    merged = {"steps": 1, **_flat(values), **own, **scales}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in merged.items()}


def row_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row of the training log."""
    return {
        name: float(value)
        for name, value in row.items()
        if name not in _STEP_FIELDS and isinstance(value, int | float) and not isinstance(value, bool)
    }


def score_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation during training: `eval/` and the score's name."""
    return {"eval/" + metric_name(name): value for name, value in row_values(row).items()}


def metric_name(text: str) -> str:
    """A name of a metric or tag as MLflow allows it."""
    return re.sub(r"[^\w\-. :/]", "_", text)


def training_rows(student: Student, folder: Path) -> list[Row]:
    """Read the training log; InputError if a line is not a JSON object with a whole number `images_seen`."""
    return _rows(student.training_log, folder, row_values)


def evaluation_rows(student: Student, folder: Path) -> list[Row]:
    """Read the scores computed during training, if any; raises as `training_rows`."""
    if student.evaluations is None:
        return []
    return _rows(student.evaluations, folder, score_values)


def grid_steps(student: Student, folder: Path) -> list[tuple[int, Path]]:
    """Images seen and file of each sample grid; InputError if a file is not named by images seen."""
    paths = [folder / ref.path for ref in student.grids]
    for path in paths:
        if not path.stem.isdecimal():
            raise InputError(
                f"{path} is not named by images seen (such as grids/0004096.png); export the student again"
            )
    return [(int(path.stem), path) for path in paths]


def log_student(client: MlflowClient, run: Any, student: Student, folder: Path, teacher: str = "") -> None:
    """Log everything but the model to the student's run, as far as the run lacks it."""
    run_id = run.info.run_id
    now = client.get_run(run_id)
    log_missing_params(client, now, run_params(student))
    # One timestamp for the whole run: when two callers race, a row that both log is one row to MLflow.
    rows = training_rows(student, folder) + evaluation_rows(student, folder)
    MetricWriter(client, now).write(
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
    """The steps whose grids the run has."""
    # MLflow gives each image a random name with its key and step inside.
    found = (re.search(rf"{GRID_KEY}\+step\+(\d+)\+.*\.png$", path) for path in artifacts(client, run_id, "images"))
    return {int(match[1]) for match in found if match}


def log_missing_params(client: MlflowClient, run: Any, params: Mapping[str, str]) -> None:
    """Log the parameters that the run does not have: MLflow refuses to change one."""
    log_entries(client, run.info.run_id, params={k: v for k, v in params.items() if k not in run.data.params})


def log_entries(
    client: MlflowClient, run_id: str, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None
) -> None:
    """Log any number of parameters and tags, in requests of the allowed size."""
    all_params = [Param(name, value) for name, value in (params or {}).items()]
    all_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
    for start in range(0, max(len(all_params), len(all_tags)), _ENTRIES_PER_REQUEST):
        part = slice(start, start + _ENTRIES_PER_REQUEST)
        client.log_batch(run_id, params=all_params[part], tags=all_tags[part])


def training_inputs(student: Student, prompts: PromptSet | None, teacher: str = "") -> list[DatasetInput]:
    """The teacher and the prompts, if known, as dataset inputs, by which MLflow lists runs.

    `teacher` is the teacher's URI with its digest, or empty where it is not known.
    """
    uri, sha256 = split_pin(teacher)
    source = {"place": uri} if sha256 == student.teacher_sha256 else {}
    source["sha256"] = student.teacher_sha256
    inputs = [_dataset_input(TEACHER, student.teacher_sha256, source, "distillation")]
    if prompts is not None:
        profile = {"prompts": prompts.count, **{f"left_by_{step.name}": step.rows_out for step in prompts.funnel}}
        source = {"prompt_set_sha256": prompts.digest, "source_sha256": prompts.source_sha256}
        name = f"prompt set {prompts.digest[:8]}"
        inputs.append(_dataset_input(name, prompts.digest, source, "distillation", profile))
    return inputs


def evaluation_inputs(uris: Mapping[str, str]) -> list[DatasetInput]:
    """The data of an evaluation as dataset inputs: by name, URIs with digests (see `sidlsg.storage.uri.pinned_uri`)."""
    found = {name: split_pin(pinned) for name, pinned in uris.items()}
    return [
        _dataset_input(name, sha256, {"place": uri, "sha256": sha256}, "evaluation")
        for name, (uri, sha256) in found.items()
    ]


def _dataset_input(
    name: str, digest: str, source: Mapping[str, str], context: str, profile: Mapping[str, Any] | None = None
) -> DatasetInput:
    dataset = Dataset(
        name=name,
        digest=digest[:_DIGEST_LENGTH],  # the source has it in full
        source_type="sidlsg",
        source=json.dumps(source),
        profile=json.dumps(profile) if profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _rows(file: FileRef, folder: Path, values: Callable[[Mapping[str, Any]], dict[str, float]]) -> list[Row]:
    return [(row["images_seen"], values(row)) for row in read_log(folder / file.path)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
