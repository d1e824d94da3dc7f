"""Runs one pipeline on this machine under `kfp.local`, with everything of it in one folder."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sidlsg.distil.recipes import Recipe
from sidlsg.kubeflow.local.children import end_stages, ending_with_this
from sidlsg.kubeflow.local.failure import stage_error
from sidlsg.kubeflow.local.output import LineSink, Rounds, Watcher
from sidlsg.kubeflow.local.publish import prune
from sidlsg.kubeflow.local.results import StageRun
from sidlsg.kubeflow.local.screen import Screen
from sidlsg.kubeflow.local.stages import Stages
from sidlsg.kubeflow.local.surroundings import environment, kfp_local, logging_to
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import cpu_quota
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE
from sidlsg.stages.requests import Request
from sidlsg.storage.files import alone_in, atomic_write, refuse_foreign

MARKER = "run.json"
"""Says that a folder is a run's, of which pipeline, what was asked for, and how it ended."""
LOG = "run.log"
CHECKPOINTS = "checkpoints"
WORK = ".kfp"
"""The stages' own outputs and their cache; without it the next run computes everything again."""
OUTPUTS, CACHE, SCRATCH = "outputs", "cache", "tmp"
FIRST = "distil-and-evaluate"
"""The pipeline of a run whose marker names none."""

T = TypeVar("T")


def execute(
    pipeline: Any,
    arguments: dict[str, Any],
    request: Request,
    run_dir: Path,
    publish: Callable[[dict[str, Any]], T],
    rounds: Rounds | None = None,
) -> tuple[T, tuple[StageRun, ...]]:
    """Run all stages, each in a process of its own, and put the results in the run folder.

    A stage whose code and inputs did not change since an earlier run in the same folder is not run again, and one
    that was stopped goes on from what it has kept.

    Args:
        pipeline: the Kubeflow pipeline.
        arguments: its parameters.
        request: what was asked for, which the folder's marker tells.
        run_dir: the folder.
        publish: puts the pipeline's outputs where the user looks for them.
        rounds: the stages that run once a setting, where the pipeline has such.

    Returns:
        What `publish` gave, and how each stage went.

    Raises:
        InputError: the folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    refuse_foreign(run_dir, MARKER)
    _refuse_another(run_dir, pipeline.name)
    run_dir.mkdir(parents=True, exist_ok=True)
    asked = {name: value for name, value in dataclasses.asdict(request).items() if name != "run_dir"}

    def mark(state: str) -> None:
        told = {"state": state, "pipeline": pipeline.name, "request": asked}
        atomic_write(run_dir / MARKER, json.dumps(told, indent=2, default=str) + "\n")

    with alone_in(run_dir):
        mark("running")
        try:
            watcher, outputs = _run(pipeline, arguments, run_dir, rounds)
            published = publish(outputs)
            prune(run_dir / WORK / OUTPUTS, run_dir / WORK / CACHE)
        except BaseException as error:
            mark(f"ended by {type(error).__name__}: {error}".rstrip(": "))
            raise
        mark("finished")
    return published, tuple(watcher.stages)


def _run(
    pipeline: Any, arguments: dict[str, Any], run_dir: Path, rounds: Rounds | None
) -> tuple[Watcher, dict[str, Any]]:
    work = run_dir / WORK
    scratch = work / SCRATCH
    # A run that was killed leaves these behind.
    end_stages(scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    for folder in (work / OUTPUTS, work / CACHE, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    # What a cluster's profile says to steps: no result depends on it, so that it is no parameter of cached ones.
    told = {
        CHECKPOINTS_VARIABLE: str(run_dir / CHECKPOINTS),
        "MLFLOW_TRACKING_URI": arguments.get("tracking_uri", ""),
        "MLFLOW_EXPERIMENT_NAME": arguments.get("model_name", "sidlsg"),
    }
    screen = Screen(sys.stdout)
    with (run_dir / LOG).open("w", buffering=1) as log:
        watcher = Watcher(screen, log, rounds)
        stages = Stages(work / CACHE, watcher, log)
        try:
            with (
                kfp_local(work / OUTPUTS, work / CACHE, scratch),
                environment(scratch, told),
                logging_to(LineSink(watcher.logged)),
                ending_with_this(scratch, stages.end),
                stages.running(),
            ):
                task = pipeline(**arguments)
        except RuntimeError as error:
            if watcher.failure is None:
                raise
            # kfp says which task failed, and not why.
            raise stage_error(watcher.failure, run_dir / LOG) from error
        finally:
            screen.close()
            shutil.rmtree(scratch, ignore_errors=True)
    return watcher, dict(task.outputs)


def machine_line(recipe: Recipe) -> str:
    """In words, how a run uses this machine."""
    if Path("/proc/driver/nvidia/version").exists():
        return "machine: a GPU, which training and evaluation use where torch is built for it"
    cpus, threads = cpu_quota(), os.environ.get("OMP_NUM_THREADS")
    found = f"machine: {cpus} CPU{'s' if cpus != 1 else ''}, no GPU"
    given = [f"{name} {value}" for name in ("processes", "threads") if (value := getattr(recipe, name))]
    if given:
        return f"{found}; training has {' and '.join(given)}"
    if threads:
        return f"{found}; a stage is one process with OMP_NUM_THREADS={threads}"
    return f"{found}; training and evaluation share them by processes of one thread each" if cpus > 1 else found


def _refuse_another(run_dir: Path, pipeline: str) -> None:
    """Refuse the folder of another pipeline's run: results of both would lie side by side as if of one."""
    try:
        marked = parse_json((run_dir / MARKER).read_text())
        name = marked.get("pipeline", FIRST)
    except (OSError, ValueError, AttributeError):
        return
    if name != pipeline:
        raise InputError(f"run folder {run_dir} is of pipeline {name}, not of {pipeline}; give another folder")
