"""Runs the sweep on this machine: one student a guidance setting, all scores on one page."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.local.execution import LOG, execute
from sidlsg.kubeflow.local.output import Rounds
from sidlsg.kubeflow.local.publish import publish_file, publish_folder
from sidlsg.kubeflow.local.results import SettingResult, SweepResult
from sidlsg.kubeflow.sdk import make_sweep
from sidlsg.stages.compare import by_setting
from sidlsg.stages.handed_on import Failed, failures_of, require_none
from sidlsg.stages.inputs import training_arguments
from sidlsg.stages.requests import SweepRequest
from sidlsg.stages.sweep import Kappas, Setting, parse_setting, parse_settings, plan_changes, setting_of
from sidlsg.storage.records import PromptSet, Scorecard, Student

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
        lambda outputs: _publish(outputs, run_dir, settings),
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


def _publish(outputs: dict[str, Any], run_dir: Path, settings: dict[Kappas, Setting]) -> tuple[SettingResult, ...]:
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
