"""Runs one pipeline on this machine under `kfp.local`, with everything of it in one folder."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
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
from sidlsg.kubeflow.local.output import LineSink, Rounds, Screen, Watcher, stage_error
from sidlsg.kubeflow.local.results import StageRun
from sidlsg.kubeflow.local.stages import Stages
from sidlsg.kubeflow.sdk import LocalExecutionConfig, local, task_spec_utils
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import cpu_quota
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE
from sidlsg.stages.requests import Request
from sidlsg.storage.files import atomic_folder, atomic_write, folder_lock, refuse_foreign


@contextlib.contextmanager
def kfp_local(outputs: Path, cache: Path, scratch: Path) -> Iterator[None]:
    """Let pipelines that are called run here, each task in a process of its own."""
    earlier, plain_print = LocalExecutionConfig.instance, builtins.print
    loop_spec = task_spec_utils.create_parameter_loop_iteration_task_spec
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(outputs),
        workspace_root=str(scratch / "workspace"),
        enable_caching=True,
        cache_root=str(cache),
    )

    def corrected(loop: Any, item: Any, name: str) -> Any:
        """kfp puts the item in the place of every output of an earlier task that the loop reads."""
        made = loop_spec(loop, item, name)
        for each, given in loop.inputs.parameters.items():
            if given.HasField("task_output_parameter"):
                made.inputs.parameters[each].CopyFrom(given)
        return made

    task_spec_utils.create_parameter_loop_iteration_task_spec = corrected
    try:
        yield
    finally:
        task_spec_utils.create_parameter_loop_iteration_task_spec = loop_spec
        LocalExecutionConfig.instance = earlier
        # Tasks of a loop run in threads, each of which replaces these and puts back what it found there: the print or
        # the handler of another one, if that ended first.
        builtins.print = plain_print
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def environment(scratch: Path, told: Mapping[str, str]) -> Iterator[None]:
    """Set what the stages' processes inherit, `told` among it."""
    given = {
        **told,
        # Their lines must come while they run.
        "PYTHONUNBUFFERED": "1",
        # kfp leaves a temporary folder behind for every task; and by this the processes are known.
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
def logging_to(sink: LineSink) -> Iterator[None]:
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


PATIENCE = 5.0
"""Seconds between asking a process to end and making it."""


@contextlib.contextmanager
def ending_with_this(scratch: Path, start_no_more: Callable[[], None]) -> Iterator[None]:
    """When the block ends by an error or a signal, end the stages' processes first.

    Args:
        scratch: the temporary folder of the run's processes, by which they are known.
        start_no_more: is called before that; stages that run in threads would start the next process else.
    """

    def end() -> None:
        start_no_more()
        end_stages(scratch)

    def ended(number: int, _: FrameType | None) -> None:
        # Whoever waits for a stage would go on waiting when this is raised, so the stage goes first.
        end()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    earlier: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # A program in the background of a shell is not to be interrupted, and stays so.
        heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) != signal.SIG_IGN]
        earlier = {sign: signal.signal(sign, ended) for sign in heard}
    try:
        yield
    except BaseException:
        end()
        raise
    finally:
        for sign, handler in earlier.items():
            signal.signal(sign, handler)


def end_stages(scratch: Path) -> None:
    """End every process that was started with this temporary folder in its environment, and wait until it is gone.

    A run that was killed leaves such processes to nobody, so they are not looked for among the children. A fork has
    the environment of the process that it is a fork of.
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
        # A process may go while it is looked at, and others' may not be looked at.
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def publish_folder(source: Path, target: Path, marker: str) -> None:
    """Replace a result folder by another, at once; the files take no space twice where links work.

    Args:
        source: what a stage wrote.
        target: the folder in the run folder.
        marker: the file name of its record.

    Raises:
        InputError: `target` holds something else.
    """
    with atomic_folder(target, marker) as folder:
        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)


def publish_file(source: Path, target: Path) -> None:
    """Replace a result file by another, at once."""
    atomic_write(target, source.read_bytes())


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copy2(source, target)
    return target


def prune(pipeline_root: Path, cache_root: Path) -> None:
    """Remove the outputs of tasks that no cache entry speaks of: nothing will read them again.

    Args:
        pipeline_root: holds `<run>/<task>/`.
        cache_root: holds one JSON file an entry, with the places of artifacts in it.
    """
    known = "".join(entry.read_text() for entry in cache_root.glob("*.json"))
    for run in (path for path in pipeline_root.iterdir() if path.is_dir()):
        for task in run.iterdir():
            # As JSON spells it, where a path has characters outside ASCII.
            if json.dumps(f"{task}{os.sep}")[1:-1] not in known:
                shutil.rmtree(task, ignore_errors=True)
        with contextlib.suppress(OSError):
            run.rmdir()


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
