"""Runs the whole pipeline on this machine under `kfp.local`, with everything in one folder."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidlsg.errors import InputError
from sidlsg.package import code_digest
from sidlsg.places import BUNDLED, place_digest, resolve
from sidlsg.recipes.recipe import recipe_with_changes
from sidlsg.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict
from sidlsg.run.failure import stage_error
from sidlsg.run.kubeflow import LocalExecutionConfig, distil_and_evaluate, local
from sidlsg.run.parameters import curation_rules, gate_rules
from sidlsg.run.publish import prune, publish_folder
from sidlsg.run.request import RunRequest, RunResult
from sidlsg.run.screen import Screen
from sidlsg.run.watch import LineSink, Watcher
from sidlsg.storage import atomic_write, refuse_foreign

MARKER = "run.json"
"""Says that a folder is a run's, what was asked for, and how it ended."""
LOG = "run.log"
WORK = ".kfp"
"""The stages' own outputs and their cache; without it the next run computes everything again."""


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
    with _alone_in(run_dir):
        _mark(request, run_dir, "running")
        try:
            watcher, outputs = _run_pipeline(arguments, run_dir)
            places = _publish(outputs, run_dir)
            prune(run_dir / WORK / "outputs", run_dir / WORK / "cache")
        except BaseException as error:
            _mark(request, run_dir, f"ended by {type(error).__name__}: {error}")
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
    recipe_with_changes(request.recipe, request.changes)
    gate_rules(request.recipe)
    curation_rules(request.rules)
    if not (math.isfinite(request.hourly_price) and request.hourly_price >= 0):
        raise InputError(f"hourly price {request.hourly_price} is not a price; give 0 or more")
    if not request.tracking_uri and any(sign in str(run_dir) for sign in "?#%"):
        raise InputError(f"run folder {run_dir} has a '?', '#' or '%' in it, which MLflow's address cannot; rename it")
    places = {name: getattr(request, name) for name in ("prompts", "held_out", "teacher", "judge")}
    return {
        "recipe": request.recipe,
        "changes": request.changes,
        "seed": request.seed,
        "rules": request.rules,
        **{name: place if place.startswith(BUNDLED) else str(resolve(place)) for name, place in places.items()},
        **{f"{name}_sha256": place_digest(place) for name, place in places.items()},
        "model_name": request.model_name,
        "tracking_uri": request.tracking_uri or f"sqlite:///{run_dir / 'mlflow' / 'mlflow.db'}",
        "checkpoints": str(run_dir / "checkpoints"),
        "package_sha256": code_digest(),
        "hourly_price": float(request.hourly_price),
    }


def _run_pipeline(arguments: dict[str, Any], run_dir: Path) -> tuple[Watcher, dict[str, Any]]:
    work = run_dir / WORK
    scratch = work / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    for folder in (work / "outputs", work / "cache", scratch / "workspace"):
        folder.mkdir(parents=True, exist_ok=True)
    screen = Screen(sys.stdout)
    with (run_dir / LOG).open("w", buffering=1) as log:
        watcher = Watcher(screen, log)
        sink = LineSink(watcher.feed)
        try:
            with _kfp(work), _environment(scratch), _logging_to(sink):
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


@contextlib.contextmanager
def _alone_in(run_dir: Path) -> Iterator[None]:
    # A lock on the folder itself: it leaves no file behind, and ends with the process however that ends.
    handle = os.open(run_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run is going on in {run_dir}; wait for it, or give another folder") from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _kfp(work: Path) -> Iterator[None]:
    earlier = LocalExecutionConfig.instance
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(work / "outputs"),
        workspace_root=str(work / "tmp" / "workspace"),
        enable_caching=True,
        cache_root=str(work / "cache"),
    )
    try:
        yield
    finally:
        LocalExecutionConfig.instance = earlier


@contextlib.contextmanager
def _environment(scratch: Path) -> Iterator[None]:
    """What the stages' processes inherit."""
    given = {
        # Their lines must come while they run.
        "PYTHONUNBUFFERED": "1",
        # kfp leaves a temporary folder behind for every task.
        "TMPDIR": str(scratch),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # For the programs that a library may call by name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    earlier = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _logging_to(sink: LineSink) -> Iterator[None]:
    """Send what kfp prints and logs to the sink; it logs by the root logger, and would set that up for good."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    handler = logging.StreamHandler(sink)
    handler.setFormatter(logging.Formatter("%(levelname)s - %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
