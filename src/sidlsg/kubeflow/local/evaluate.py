"""Scores a registered version on this machine, and judges it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.local.execution import LOG, execute
from sidlsg.kubeflow.local.publish import publish_file, publish_folder
from sidlsg.kubeflow.local.results import EvaluateResult
from sidlsg.kubeflow.sdk import evaluate_only
from sidlsg.runtime.errors import InputError
from sidlsg.stages.inputs import common_arguments, gate_text
from sidlsg.stages.parameters import gate_rules
from sidlsg.stages.requests import EvaluateRequest
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import ModelVersion, Scorecard, Verdict

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
    from sidlsg.registry.find import find_version

    find_version(request.tracking_uri, request.model_name, request.version)
    outputs, stages = execute(evaluate_only, arguments, request, run_dir, lambda outputs: _publish(outputs, run_dir))
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


def _publish(outputs: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    publish_folder(Path(outputs["scorecard"].path), run_dir / "scorecard", Scorecard.FILE)
    for output, record in (("version", ModelVersion), ("verdict", Verdict)):
        atomic_write(run_dir / record.FILE, outputs[output])
    publish_file(run_dir / "scorecard" / Scorecard.FILE, run_dir / Scorecard.FILE)
    publish_file(Path(outputs["html"].path), run_dir / PAGE)
    return outputs
