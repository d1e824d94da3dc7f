"""Runs the whole pipeline on this machine: prompts, a student, its version and scores, a verdict and a report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.local.execution import LOG, execute
from sidlsg.kubeflow.local.publish import publish_file, publish_folder
from sidlsg.kubeflow.local.results import RunResult
from sidlsg.kubeflow.sdk import distil_and_evaluate
from sidlsg.runtime.cost import cost_of_json
from sidlsg.runtime.costs import parse_prices
from sidlsg.runtime.overrides import parse_changes
from sidlsg.stages.inputs import gate_text, training_arguments
from sidlsg.stages.parameters import gate_rules
from sidlsg.stages.requests import RunRequest
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
