"""What a local run sets up around itself and puts back: kfp, the environment, logging."""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.local.output import LineSink
from sidlsg.kubeflow.sdk import LocalExecutionConfig, local, task_spec_utils


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
