"""Waits for a run and tells what its stages do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sidlsg.kubeflow.server.runs import Kubeflow
from sidlsg.runtime.errors import RunFailedError, StoppedError, StorageError

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
GOOD = ("SUCCEEDED", "SKIPPED")


def watch(
    runs: Kubeflow, run_id: str, report: Callable[[str], None], *, limit: float = 0.0, every: float = 5.0
) -> None:
    """Wait until a run ends; a server that does not answer is waited for.

    Args:
        runs: the server.
        run_id: of the run.
        report: takes a line for each stage that changes.
        limit: seconds to wait at most; 0 for no limit.
        every: seconds between two looks.

    Raises:
        RunFailedError: it failed or was cancelled.
        StoppedError: the limit or an interrupt came first; the run goes on.
    """
    link = runs.server.connection.run_link(run_id)
    began = time.monotonic()
    told: dict[str, str] = {}
    try:
        while True:
            try:
                run = runs.details(run_id)
            except StorageError as error:
                report(f"still waiting: {error}")
            else:
                _tell(run, told, report)
                if run.state in ENDED:
                    break
            left = began + limit - time.monotonic() if limit else every
            if left <= 0:
                raise StoppedError(f"the run has not ended within {limit:g} seconds, and goes on: {link}")
            time.sleep(min(every, left))
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"waiting was interrupted, and the run goes on: {link} shows it, and Terminate there ends it; the same "
            "command waits again"
        ) from error
    if run.state not in GOOD:
        raise RunFailedError(f"the run {run.display_name} {_ending(run)}: {link}")


def tasks_of(run: Any) -> list[Any]:
    """The tasks of a run; none before it has begun."""
    return (run.run_details.task_details if run.run_details else None) or []


def _tell(run: Any, told: dict[str, str], report: Callable[[str], None]) -> None:
    states = {str(task.task_id): (task.display_name, task.state) for task in tasks_of(run)}
    states["run"] = ("run", run.state)
    for key, (name, state) in states.items():
        if state and told.get(key) != state:
            told[key] = state
            report(f"{name}: {state.lower()}")


def _ending(run: Any) -> str:
    if run.state == "CANCELED":
        return "was cancelled"
    failed = [task for task in tasks_of(run) if task.state == "FAILED"]
    # A group of tasks fails because one inside it did, which is the one that says why.
    parents = {task.parent_task_id for task in failed}
    leaves = [task for task in failed if task.task_id not in parents] or failed
    reasons = [f"{task.display_name}{_message(task)}" for task in leaves]
    return f"failed in {'; '.join(reasons)}" if reasons else f"failed{_message(run)}"


def _message(thing: Any) -> str:
    return f" ({thing.error.message})" if thing.error and thing.error.message else ""
