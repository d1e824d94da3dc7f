"""Runs the whole pipeline on this machine under `kfp.local`, with everything in one folder."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from sidlsg.errors import InputError
from sidlsg.package import code_digest
from sidlsg.places import BUNDLED, place_digest, resolve
from sidlsg.prompts.source import read_source
from sidlsg.recipes.recipe import recipe_with_changes
from sidlsg.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict
from sidlsg.registry.names import check_name
from sidlsg.run.children import end_stages, ending_with_this
from sidlsg.run.failure import stage_error
from sidlsg.run.kubeflow import distil_and_evaluate
from sidlsg.run.parameters import curation_rules, gate_rules
from sidlsg.run.publish import prune, publish_folder
from sidlsg.run.request import RunRequest, RunResult
from sidlsg.run.screen import Screen
from sidlsg.run.surroundings import environment, kfp_local, logging_to
from sidlsg.run.watch import LineSink, Watcher
from sidlsg.storage import alone_in, atomic_write, refuse_foreign

MARKER = "run.json"
"""Says that a folder is a run's, what was asked for, and how it ended."""
LOG = "run.log"
WORK = ".kfp"
"""The stages' own outputs and their cache; without it the next run computes everything again."""
OUTPUTS, CACHE, SCRATCH = "outputs", "cache", "tmp"


def run_local(request: RunRequest) -> RunResult:
    """Run all stages, each in a process of its own, and put the results in the run folder.

    A stage whose code and inputs did not change since an earlier run in the same folder is not run again, and one
    that was stopped goes on from its last checkpoint.

    Raises:
        InputError: an input or the run folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    began = time.monotonic()
    run_dir = request.run_dir.expanduser().resolve()
    # All that can be checked is checked before the first stage, and before anything is written.
    arguments = pipeline_arguments(request, run_dir)
    refuse_foreign(run_dir, MARKER)
    run_dir.mkdir(parents=True, exist_ok=True)
    with alone_in(run_dir):
        _mark(request, run_dir, "running")
        try:
            watcher, outputs = _run_pipeline(arguments, run_dir)
            places = _publish(outputs, run_dir)
            prune(run_dir / WORK / OUTPUTS, run_dir / WORK / CACHE)
        except BaseException as error:
            _mark(request, run_dir, f"ended by {type(error).__name__}: {error}".rstrip(": "))
            raise
        _mark(request, run_dir, "finished")
    return RunResult(
        **places,
        log=run_dir / LOG,
        tracking_uri=arguments["tracking_uri"],
        version=ModelVersion.from_json(outputs["version"]),
        scorecard=Scorecard.load(places["scorecard_folder"]),
        verdict=Verdict.from_json(outputs["verdict"]),
        promotion=Promotion.from_json(outputs["promotion"]),
        stages=tuple(watcher.stages),
        seconds=round(time.monotonic() - began, 1),
    )


def pipeline_arguments(request: RunRequest, run_dir: Path) -> dict[str, Any]:
    """The pipeline's parameters for a request, with the digests that make its cache keys right.

    Raises:
        InputError: a value, or what lies at a place, cannot be used.
    """
    recipe = recipe_with_changes(request.recipe, request.changes)
    gate_rules(request.recipe)
    rules = curation_rules(request.rules)
    check_name(request.model_name)
    if not (math.isfinite(request.embeddings_gb) and request.embeddings_gb >= 0):
        raise InputError(f"embeddings_gb is {request.embeddings_gb}, not a size; give 0 or more")
    if not (math.isfinite(request.hourly_price) and request.hourly_price >= 0):
        raise InputError(f"hourly price {request.hourly_price} is not a price; give 0 or more")
    if not request.tracking_uri and any(sign in str(run_dir) for sign in "?#%"):
        raise InputError(f"run folder {run_dir} has a '?', '#' or '%' in it, which MLflow's address cannot; rename it")
    # Imported here: MLflow and torch take seconds.
    if request.tracking_uri:
        from sidlsg.registry.connect import check_address

        check_address(request.tracking_uri)
    from sidlsg.evaluate.judge import load_judge

    next(read_source(resolve(request.prompts), rules), None)
    load_judge(resolve(request.judge))
    places = {name: getattr(request, name) for name in ("prompts", "held_out", "teacher", "judge")}
    return {
        "recipe": request.recipe,
        "changes": request.changes,
        "seed": request.seed,
        "rules": request.rules,
        **{name: place if place.startswith(BUNDLED) else str(resolve(place)) for name, place in places.items()},
        "teacher_layout": request.teacher_layout,
        **{f"{name}_sha256": place_digest(place) for name, place in places.items()},
        "model_name": request.model_name,
        "tracking_uri": request.tracking_uri or f"sqlite:///{run_dir / 'mlflow' / 'mlflow.db'}",
        "checkpoints": str(run_dir / "checkpoints"),
        "embeddings_gb": float(request.embeddings_gb),
        "embeddings_dtype": recipe.text_states,
        "package_sha256": code_digest(),
        "hourly_price": float(request.hourly_price),
    }


def _run_pipeline(arguments: dict[str, Any], run_dir: Path) -> tuple[Watcher, dict[str, Any]]:
    work = run_dir / WORK
    scratch = work / SCRATCH
    # A run that was killed leaves these behind.
    end_stages(scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    for folder in (work / OUTPUTS, work / CACHE, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    screen = Screen(sys.stdout)
    with (run_dir / LOG).open("w", buffering=1) as log:
        watcher = Watcher(screen, log)
        sink = LineSink(watcher.feed)
        try:
            with (
                kfp_local(work / OUTPUTS, work / CACHE, scratch),
                environment(scratch),
                logging_to(sink),
                ending_with_this(scratch),
            ):
                task = distil_and_evaluate(**arguments)
        except RuntimeError as error:
            if not watcher.failed:
                raise
            # kfp only says which task failed; why is in what the task printed.
            raise stage_error(watcher.failed, watcher.printed, run_dir / LOG) from error
        finally:
            screen.close()
            shutil.rmtree(scratch, ignore_errors=True)
    return watcher, dict(task.outputs)


def _publish(outputs: dict[str, Any], run_dir: Path) -> dict[str, Path]:
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
    atomic_write(run_dir / Scorecard.FILE, (run_dir / "scorecard" / Scorecard.FILE).read_bytes())
    report = run_dir / "report.html"
    atomic_write(report, Path(outputs["html"].path).read_bytes())
    return {
        "prompts": run_dir / "prompts",
        "student": run_dir / "student",
        "scorecard_folder": run_dir / "scorecard",
        "report": report,
    }


def _mark(request: RunRequest, run_dir: Path, state: str) -> None:
    asked = {name: value for name, value in dataclasses.asdict(request).items() if name != "run_dir"}
    atomic_write(run_dir / MARKER, json.dumps({"state": state, "request": asked}, indent=2) + "\n")
