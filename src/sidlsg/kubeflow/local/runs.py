"""Runs the whole pipeline on this machine: prompts, a student, its version and scores, a verdict and a report."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.local.execution import LOG, execute, publish_file, publish_folder
from sidlsg.kubeflow.local.output import Rounds
from sidlsg.kubeflow.local.results import EvaluateResult, RunResult, SettingResult, SweepResult
from sidlsg.kubeflow.sdk import distil_and_evaluate, evaluate_only, make_sweep
from sidlsg.runtime.costs import cost_of_json, parse_prices
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes
from sidlsg.stages.compare import by_setting
from sidlsg.stages.handed_on import Failed, failures_of, require_none
from sidlsg.stages.inputs import common_arguments, gate_rules, gate_text, training_arguments
from sidlsg.stages.requests import EvaluateRequest, RunRequest, SweepRequest
from sidlsg.stages.sweep import GuidanceSetting, Kappas, parse_setting, parse_settings, plan_changes, setting_of
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict


def run_local(request: RunRequest) -> RunResult:
    """Run all stages and put the results in the run folder, see `sidlsg.kubeflow.local.execution.execute`.

    Raises:
        InputError: an input or the run folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    began = time.monotonic()
    run_dir = request.run_dir.expanduser().resolve()
    # All that can be checked is checked before the first stage, and before anything is written.
    arguments = pipeline_arguments(request, run_dir)
    outputs, stages = execute(
        distil_and_evaluate, arguments, request, run_dir, lambda outputs: _publish(outputs, run_dir)
    )
    return RunResult(
        prompts=run_dir / "prompts",
        student=run_dir / "student",
        scorecard_folder=run_dir / "scorecard",
        report=run_dir / "report.html",
        log=run_dir / LOG,
        tracking_uri=arguments["tracking_uri"],
        version=ModelVersion.from_json(outputs["version"]),
        scorecard=Scorecard.load(run_dir / "scorecard"),
        verdict=Verdict.from_json(outputs["verdict"]),
        promotion=Promotion.from_json(outputs["promotion"]),
        cost=cost_of_json(outputs["costs"]),
        stages=stages,
        seconds=round(time.monotonic() - began, 1),
    )


def pipeline_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The pipeline's parameters for a request.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    text = gate_text(request)
    gate_rules(request.recipe, text)
    parse_prices(request.prices, request.hourly_price)
    return {
        **training_arguments(request, run_dir),
        "hourly_price": float(request.hourly_price),
        "prices": parse_changes(request.prices),
        "gate_rules": text,
    }


def _publish(outputs: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    folders = {
        "prompts": ("prompt_set", PromptSet.FILE),
        "student": ("student", Student.FILE),
        "scorecard": ("scorecard", Scorecard.FILE),
    }
    for name, (output, marker) in folders.items():
        publish_folder(Path(outputs[output].path), run_dir / name, marker)
    for output, record in (("version", ModelVersion), ("verdict", Verdict), ("promotion", Promotion)):
        atomic_write(run_dir / record.FILE, outputs[output])
    # The same file again, where people look first; its grids stay in the folder.
    publish_file(run_dir / "scorecard" / Scorecard.FILE, run_dir / Scorecard.FILE)
    publish_file(Path(outputs["html"].path), run_dir / "report.html")
    return outputs


PAGE = "scorecard.html"


def run_evaluation(request: EvaluateRequest) -> EvaluateResult:
    """Run all stages and put the results in the run folder, see `sidlsg.kubeflow.local.execution.execute`.

    Raises:
        InputError: an input or the run folder cannot be used, or the registry has no such version.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    began = time.monotonic()
    run_dir = request.run_dir.expanduser().resolve()
    # All that can be checked is checked before the first stage, and before anything is written.
    arguments = evaluate_arguments(request, run_dir)
    # Imported here: MLflow takes seconds.
    from sidlsg.registry.versions import find_version

    find_version(request.tracking_uri, request.model_name, request.version)
    outputs, stages = execute(
        evaluate_only, arguments, request, run_dir, lambda outputs: _publish_evaluation(outputs, run_dir)
    )
    return EvaluateResult(
        scorecard_folder=run_dir / "scorecard",
        page=run_dir / PAGE,
        version=ModelVersion.from_json(outputs["version"]),
        scorecard=Scorecard.load(run_dir / "scorecard"),
        verdict=Verdict.from_json(outputs["verdict"]),
        log=run_dir / LOG,
        tracking_uri=request.tracking_uri,
        stages=stages,
        seconds=round(time.monotonic() - began, 1),
    )


def evaluate_arguments(request: EvaluateRequest, run_dir: Path) -> dict[str, Any]:
    """The pipeline's parameters for a request.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    text = gate_text(request)
    gate_rules(request.recipe, text)
    if not request.tracking_uri:
        raise InputError("no MLflow is given that has the version; give the registry's address")
    return {**common_arguments(request, run_dir), "version": request.version, "gate_rules": text}


def _publish_evaluation(outputs: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    publish_folder(Path(outputs["scorecard"].path), run_dir / "scorecard", Scorecard.FILE)
    for output, record in (("version", ModelVersion), ("verdict", Verdict)):
        atomic_write(run_dir / record.FILE, outputs[output])
    publish_file(run_dir / "scorecard" / Scorecard.FILE, run_dir / Scorecard.FILE)
    publish_file(Path(outputs["html"].path), run_dir / PAGE)
    return outputs


ROUND = ("distil", "register", "evaluate")
"""The stages that run once a setting, in order."""
STUDENTS, SCORECARDS, SCOREBOARD = "students", "scorecards", "scoreboard.html"


def run_sweep(request: SweepRequest) -> SweepResult:
    """Run all stages and put the results in the run folder, see `sidlsg.kubeflow.local.execution.execute`.

    One setting runs after the other: two trainings would take one another's processors. A setting that fails ends
    the run when the others are compared.

    Raises:
        InputError: an input or the run folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    began = time.monotonic()
    run_dir = request.run_dir.expanduser().resolve()
    settings = parse_settings(request.settings)
    # All that can be checked is checked before the first stage, and before anything is written.
    arguments = sweep_arguments(request, run_dir)
    found, stages = execute(
        make_sweep(at_once=1, concludes=False),
        arguments,
        request,
        run_dir,
        lambda outputs: _publish_sweep(outputs, run_dir, settings),
        Rounds(labels=tuple(setting.text for setting in settings.values()), stages=ROUND),
    )
    return SweepResult(
        settings=found,
        scoreboard=run_dir / SCOREBOARD,
        log=run_dir / LOG,
        tracking_uri=arguments["tracking_uri"],
        stages=stages,
        seconds=round(time.monotonic() - began, 1),
    )


def sweep_arguments(request: SweepRequest, run_dir: Path) -> dict[str, Any]:
    """The pipeline's parameters for a request.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    plan_changes(request.settings, request.recipe, request.changes)
    # As a record has them, however they were written: the page and the cache should not see spaces.
    texts = [setting.text for setting in parse_settings(request.settings).values()]
    return {**training_arguments(request, run_dir), "settings": texts}


def _publish_sweep(
    outputs: dict[str, Any], run_dir: Path, settings: dict[Kappas, GuidanceSetting]
) -> tuple[SettingResult, ...]:
    publish_folder(Path(outputs["prompt_set"].path), run_dir / "prompts", PromptSet.FILE)
    publish_file(Path(outputs["html"].path), run_dir / SCOREBOARD)
    failures = failures_of(outputs["failures"])
    for artifact in outputs["students"]:
        if Failed.load(Path(artifact.path)) is not None:
            continue
        setting = setting_of(Student.load(Path(artifact.path)).kappas, settings)
        publish_folder(Path(artifact.path), run_dir / STUDENTS / setting.folder, Student.FILE)
    results = []
    folders = [Path(artifact.path) for artifact in outputs["scorecards"]]
    found, _ = by_setting([setting.text for setting in settings.values()], folders, outputs["versions"])
    for swept in found:
        name = parse_setting(swept.setting).folder
        publish_folder(swept.folder, run_dir / SCORECARDS / name, Scorecard.FILE)
        results.append(
            SettingResult(
                setting=swept.setting,
                student=run_dir / STUDENTS / name,
                scorecard_folder=run_dir / SCORECARDS / name,
                scorecard=swept.card,
                version=swept.version,
            )
        )
    known = {setting.folder for setting in settings.values()}
    for parent, marker in ((STUDENTS, Student.FILE), (SCORECARDS, Scorecard.FILE)):
        _remove_others(run_dir / parent, marker, known)
    require_none(failures, str(run_dir / SCOREBOARD))
    return tuple(results)


def _remove_others(parent: Path, marker: str, known: set[str]) -> None:
    """Remove an earlier sweep's results whose settings are not in this one; the cache still has them."""
    for folder in parent.iterdir():
        if folder.name not in known and (folder / marker).is_file():
            shutil.rmtree(folder)
