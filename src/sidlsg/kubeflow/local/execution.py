"""Runs a pipeline on this machine under `kfp.local`, with everything of it in one folder."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import io
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from sidlsg.distil.recipes import Recipe
from sidlsg.kubeflow.local.output import LineSink, Rounds, Screen, Watcher
from sidlsg.kubeflow.local.results import LOG, StageRun
from sidlsg.kubeflow.local.stages import Stages
from sidlsg.kubeflow.sdk import LocalExecutionConfig, local, task_spec_utils
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import cpu_quota
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE
from sidlsg.stages.run_request import MARKER, RunRequest
from sidlsg.storage.files import atomic_folder, atomic_write, folder_lock, refuse_foreign


@contextlib.contextmanager
def kfp_local(outputs: Path, cache: Path, scratch: Path, sink: io.TextIOBase) -> Iterator[None]:
    """Run pipelines that are called in this block on this machine, each task in its own process.

    What kfp prints and logs goes to `sink`; it logs by the root logger, and would reconfigure that for good.
    """
    earlier, plain_print = LocalExecutionConfig.instance, builtins.print
    loop_spec = task_spec_utils.create_parameter_loop_iteration_task_spec
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    handler = logging.StreamHandler(sink)
    handler.setFormatter(logging.Formatter("%(levelname)s - %(message)s"))
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(outputs),
        workspace_root=str(scratch / "workspace"),
        enable_caching=True,
        cache_root=str(cache),
    )

    def corrected(loop: Any, item: Any, name: str) -> Any:
        """kfp replaces every output of an earlier task that the loop reads by the item."""
        made = loop_spec(loop, item, name)
        for each, given in loop.inputs.parameters.items():
            if given.HasField("task_output_parameter"):
                made.inputs.parameters[each].CopyFrom(given)
        return made

    task_spec_utils.create_parameter_loop_iteration_task_spec = corrected
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        task_spec_utils.create_parameter_loop_iteration_task_spec = loop_spec
        LocalExecutionConfig.instance = earlier
        # Tasks of a loop run in threads, each of which replaces these and restores what it found: the print or the
        # handler of another one, if that ended first.
        builtins.print = plain_print
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def environment(scratch: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Set what the stages' processes inherit, `variables` included."""
    given = {
        **variables,
        # Their lines must come while they run.
        "PYTHONUNBUFFERED": "1",
        # kfp leaves a temporary folder behind for every task; the processes are also found by it.
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


PATIENCE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


@contextlib.contextmanager
def ending_with_this(scratch: Path, start_no_more: Callable[[], None]) -> Iterator[None]:
    """When the block ends by an error or a signal, end the stages' processes first.

    Args:
        scratch: the temporary folder of the run's processes, which identifies them.
        start_no_more: called before that; stages that run in threads would otherwise start the next process.
    """

    def end() -> None:
        try:
            start_no_more()
        finally:  # it may write to a terminal that is gone
            end_stages(scratch)

    def ended(number: int, _: FrameType | None) -> None:
        # kfp would still wait for a stage when this is raised, so the stage is ended first.
        end()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    earlier: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # A background program of a shell ignores interrupts, and continues to.
        handled = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) != signal.SIG_IGN]
        earlier = {sign: signal.signal(sign, ended) for sign in handled}
    try:
        yield
    except BaseException:
        end()
        raise
    finally:
        for sign, handler in earlier.items():
            signal.signal(sign, handler)


def end_stages(scratch: Path) -> None:
    """End every process that has this temporary folder in its environment, and wait until it is gone.

    The stages of a run that was killed are no longer its children, so children are not enough.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in _stages(scratch):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + PATIENCE
        while _stages(scratch) and time.monotonic() < deadline:
            time.sleep(0.05)


def _stages(scratch: Path) -> list[int]:
    mark = os.fsencode(f"TMPDIR={scratch}")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # A process may end meanwhile, and other users' processes are not readable.
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def publish_folder(source: Path, target: Path, marker: str) -> None:
    """Replace a result folder atomically; files are hard links where those work.

    Raises:
        InputError: `target` exists and does not hold the file `marker`.
    """
    with atomic_folder(target, marker) as folder:
        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copy2(source, target)
    return target


def prune(pipeline_root: Path, cache_root: Path) -> None:
    """Remove the outputs `<run>/<task>/` of tasks that no cache entry mentions."""
    known = "".join(entry.read_text() for entry in cache_root.glob("*.json"))
    for run in (path for path in pipeline_root.iterdir() if path.is_dir()):
        for task in run.iterdir():
            # As JSON spells it, where a path has characters outside ASCII.
            if json.dumps(f"{task}{os.sep}")[1:-1] not in known:
                shutil.rmtree(task, ignore_errors=True)
        with contextlib.suppress(OSError):
            run.rmdir()


CHECKPOINTS = "checkpoints"
WORK = ".kfp"
"""The stages' outputs and cache; without it the next run computes everything again."""
OUTPUTS, CACHE, SCRATCH = "outputs", "cache", "tmp"
FIRST = "distil-and-evaluate"
"""The pipeline of a run whose marker names none."""

T = TypeVar("T")


def execute(
    pipeline: Any,
    arguments: dict[str, Any],
    request: RunRequest,
    run_dir: Path,
    publish: Callable[[dict[str, Any]], T],
    rounds: Rounds | None = None,
) -> tuple[T, tuple[StageRun, ...]]:
    """Run all stages, each in its own process, and put the results in the run folder.

    A stage whose code and inputs did not change since an earlier run in the same folder is not run again, and one
    that was stopped resumes from its persisted state.

    The folder's marker records `request`, as far as it concerns the pipeline. `publish` puts the pipeline's outputs in
    the folder; what it returned is returned, and how each stage went. `rounds` are the stages that run once a setting.

    Raises:
        InputError: the folder cannot be used.
        StageError: a stage failed; the message and the exit code are the stage's.
    """
    refuse_foreign(run_dir, MARKER)
    _refuse_another(run_dir, pipeline.name)
    run_dir.mkdir(parents=True, exist_ok=True)
    asked = {
        name: value
        for name, value in dataclasses.asdict(request).items()
        if name in (pipeline.component_spec.inputs or {})
    }

    def mark(state: str) -> None:
        marker = {"state": state, "pipeline": pipeline.name, "request": asked}
        atomic_write(run_dir / MARKER, json.dumps(marker, indent=2, default=str) + "\n")

    with folder_lock(run_dir):
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
    # What a cluster's profile gives to steps: no result depends on it, so it is not a parameter of cached steps.
    variables = {
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
                kfp_local(work / OUTPUTS, work / CACHE, scratch, LineSink(watcher.logged)),
                environment(scratch, variables),
                ending_with_this(scratch, stages.end),
                stages.running(),
            ):
                task = pipeline(**arguments)
        except RuntimeError as error:
            if watcher.failure is None:
                raise
            # kfp reports which task failed, and not why.
            raise watcher.failure from error
        finally:
            screen.close()
            shutil.rmtree(scratch, ignore_errors=True)
    return watcher, dict(task.outputs)


def machine_line(recipe: Recipe) -> str:
    """How a run uses this machine, for its first line."""
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
    """Refuse the folder of another pipeline's run: the results of both would look like one run's."""
    try:
        marked = parse_json((run_dir / MARKER).read_text())
        name = marked.get("pipeline", FIRST)
    except (OSError, ValueError, AttributeError):
        return
    if name != pipeline:
        raise InputError(f"run folder {run_dir} is of pipeline {name}, not of {pipeline}; give another folder")
