"""The three kinds of local runs: the whole pipeline, the evaluation of a registered version, and a sweep."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sidlsg.kubeflow.local.execution import execute, publish_folder
from sidlsg.kubeflow.local.output import Rounds
from sidlsg.kubeflow.local.results import EvaluateResult, RunResult, SettingResult, SweepResult
from sidlsg.runtime.costs import cost_of_json, parse_prices
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes
from sidlsg.stages.failures import conclude_step, failure_in
from sidlsg.stages.gate_rules import gate_rules
from sidlsg.stages.inputs import common_arguments, gate_text, training_arguments
from sidlsg.stages.run_request import RunRequest
from sidlsg.stages.sweep import SettingKey, SweepSetting, parse_settings, setting_of
from sidlsg.stages.sweep_results import by_setting
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import ModelVersion, Promotion, PromptSet, Record, Scorecard, Student, Verdict

FOLDERS = {
    "prompts": ("prompt_set", PromptSet.FILE),
    "student": ("student", Student.FILE),
    "scorecard": ("scorecard", Scorecard.FILE),
}
"""By folder: the pipeline's output, and the file of its record."""
RECORDS: Mapping[str, type[Record]] = {"version": ModelVersion, "verdict": Verdict, "promotion": Promotion}
ROUND = ("distil", "register", "evaluate")
"""The stages that run once a setting of a sweep, in order."""
STUDENTS, SCORECARDS = "students", "scorecards"

T = TypeVar("T")


def run_local(pipeline: Any, request: RunRequest) -> RunResult:
    """Run the whole pipeline, see `sidlsg.kubeflow.local.execution.execute`.

    Raises:
        InputError: an input or the run folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    published, result = _run(pipeline, request, pipeline_arguments, "report.html", _publish)
    return RunResult(**result, **published)


def run_evaluation(pipeline: Any, request: RunRequest) -> EvaluateResult:
    """Evaluate a registered version again, see `sidlsg.kubeflow.local.execution.execute`.

    Raises:
        InputError: an input or the run folder cannot be used, or the registry has no such version.
        StageError: a stage failed; the message and the exit code are the stage's.
    """

    def arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
        # Imported here: MLflow takes seconds.
        from sidlsg.registry.versions import find_version

        found = evaluate_arguments(request, run_dir)
        find_version(request.tracking_uri, request.model_name, request.version)
        return found

    published, result = _run(pipeline, request, arguments, "scorecard.html", _publish)
    return EvaluateResult(**result, **published)


def run_sweep(pipeline: Any, request: RunRequest) -> SweepResult:
    """Train and evaluate one student a setting, see `sidlsg.kubeflow.local.execution.execute`.

    A setting that fails ends the run after the others are compared.

    Args:
        pipeline: runs one setting after the other: two trainings would compete for the processors.
        request: the settings, and what they share.

    Raises:
        InputError: an input or the run folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    parsed = _settings(request)
    labels = tuple(setting.text for setting in parsed.values())
    publish, rounds = partial(_publish_sweep, parsed), Rounds(labels=labels, stages=ROUND)
    settings, result = _run(pipeline, request, sweep_arguments, "scoreboard.html", publish, rounds)
    return SweepResult(**result, settings=settings)


def pipeline_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The whole pipeline's parameters."""
    parse_prices(request.prices, request.hourly_price)
    return {
        "gate_rules": _gate(request),
        **training_arguments(request, run_dir),
        "hourly_price": float(request.hourly_price),
        "prices": parse_changes(request.prices),
    }


def evaluate_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The parameters of an evaluation."""
    text = _gate(request)
    if not request.tracking_uri:
        raise InputError("no MLflow is given that has the version; give the registry's address")
    return {**common_arguments(request, run_dir), "version": request.version, "gate_rules": text}


def sweep_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The parameters of a sweep."""
    # As a record has them, however they were written: the page and the cache should not see spaces.
    texts = [setting.text for setting in _settings(request).values()]
    return {**training_arguments(request, run_dir), "settings": texts}


def _settings(request: RunRequest) -> dict[SettingKey, SweepSetting]:
    return parse_settings(request.settings, request.recipe, request.changes)


def _gate(request: RunRequest) -> str:
    text = gate_text(request)
    gate_rules(request.recipe, text)
    return text


def _run(
    pipeline: Any,
    request: RunRequest,
    arguments: Callable[[RunRequest, Path], dict[str, Any]],
    page: str,
    publish: Callable[[dict[str, Any], Path], T],
    rounds: Rounds | None = None,
) -> tuple[T, dict[str, Any]]:
    """What `publish` returned, and the fields that every `Result` has."""
    began = time.monotonic()
    run_dir = request.run_dir.expanduser().resolve()
    # Everything that can be checked is checked before the first stage, and before anything is written.
    given = arguments(request, run_dir)

    def publish_all(outputs: dict[str, Any]) -> T:
        atomic_write(run_dir / page, Path(outputs["html"].path).read_bytes())
        return publish(outputs, run_dir)

    published, stages = execute(pipeline, given, request, run_dir, publish_all, rounds)
    return published, {
        "run_dir": run_dir,
        "page": run_dir / page,
        "tracking_uri": given["tracking_uri"],
        "stages": stages,
        "seconds": round(time.monotonic() - began, 1),
    }


def _publish(outputs: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Put folders and records in the run folder; returns the records by name."""
    for name, (output, marker) in FOLDERS.items():
        if output in outputs:
            publish_folder(Path(outputs[output].path), run_dir / name, marker)
    # The same file again, where people look first; its grids stay in the folder.
    card = Scorecard.load(run_dir / "scorecard")
    atomic_write(run_dir / Scorecard.FILE, (run_dir / "scorecard" / Scorecard.FILE).read_bytes())
    found: dict[str, Any] = {"scorecard": card}
    for name, record in RECORDS.items():
        if name in outputs:
            atomic_write(run_dir / record.FILE, outputs[name])
            found[name] = record.from_json(outputs[name])
    return found | ({"cost": cost_of_json(outputs["costs"])} if "costs" in outputs else {})


def _publish_sweep(
    settings: Mapping[SettingKey, SweepSetting], outputs: dict[str, Any], run_dir: Path
) -> tuple[SettingResult, ...]:
    publish_folder(Path(outputs["prompt_set"].path), run_dir / "prompts", PromptSet.FILE)
    for artifact in outputs["students"]:
        if failure_in(Path(artifact.path)) is not None:
            continue
        setting = setting_of(Student.load(Path(artifact.path)), settings)
        publish_folder(Path(artifact.path), run_dir / STUDENTS / setting.folder, Student.FILE)
    results = []
    found, _ = by_setting(settings, [Path(artifact.path) for artifact in outputs["scorecards"]], outputs["versions"])
    for swept in found:
        name = swept.setting.folder
        publish_folder(swept.folder, run_dir / SCORECARDS / name, Scorecard.FILE)
        results.append(
            SettingResult(
                setting=swept.setting.text,
                student=run_dir / STUDENTS / name,
                scorecard_folder=run_dir / SCORECARDS / name,
                scorecard=swept.card,
                version=swept.version,
            )
        )
    # An earlier sweep's results of other settings go; the cache still has them.
    known = {setting.folder for setting in settings.values()}
    for parent, marker in ((STUDENTS, Student.FILE), (SCORECARDS, Scorecard.FILE)):
        for folder in (run_dir / parent).iterdir():
            if folder.name not in known and (folder / marker).is_file():
                shutil.rmtree(folder)
    conclude_step(outputs["failures"], str(run_dir / "scoreboard.html"))
    return tuple(results)
