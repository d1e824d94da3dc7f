"""Runs of compiled pipelines: started once, watched, and summarised.

Every call raises InputError if the server refuses it, and StorageError if it does not answer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidlsg.kubeflow.compile import CompiledPipeline
from sidlsg.kubeflow.server.runs import Kubeflow, RunState, ensure_version, find_compiled
from sidlsg.registry.address import check_model_name
from sidlsg.runtime.errors import InputError, RunFailedError, StoppedError, StorageError
from sidlsg.runtime.formatting import plain_markdown
from sidlsg.runtime.progress import clock

if TYPE_CHECKING:  # MLflow takes seconds
    from sidlsg.registry.verdicts import JudgedVersion


def run_name(compiled: CompiledPipeline, parameters: Mapping[str, Any]) -> str:
    """The default name, a digest of the pipeline and its parameters."""
    content = json.dumps([compiled.version, parameters], sort_keys=True).encode()
    return f"{compiled.name}-{hashlib.sha256(content).hexdigest()[:12]}"


def submit(
    runs: Kubeflow, compiled: CompiledPipeline, name: str, parameters: Mapping[str, Any], report: Callable[[str], None]
) -> RunState:
    """Upload a compiled pipeline unless the server has its content, and start a run, or find the run of this name."""
    found = runs.find(name)
    if found is not None:
        report(f"run {name} exists already, {found.state.lower()}: no second run was started")
        return found
    version = ensure_version(runs.server, compiled)
    started = runs.start_version(name, version, parameters)
    report(f"run {name} of {compiled.name}, version {version.version}, in experiment {runs.experiment}")
    return started


def preview(
    runs: Kubeflow | None,
    experiment: str,
    compiled: CompiledPipeline,
    name: str,
    parameters: Mapping[str, Any],
    report: Callable[[str], None],
) -> None:
    """Report what `submit` would do, without a server what it would do on an empty one; nothing is changed."""
    found = None if runs is None else runs.find(name)
    if found is not None:
        report(f"would start nothing: run {name} exists already, {found.state.lower()}")
        return
    known = runs and runs.server.ask("list pipeline versions", lambda: find_compiled(runs.server, compiled))
    report(f"would {'use' if known else 'upload'} version {compiled.version} of {compiled.name}")
    report(f"would start run {name} in experiment {experiment} with {json.dumps(parameters, sort_keys=True)}")


ADDRESS = "%/:?#@!$&'()*+,;=-._~"
"""Characters of a URL besides letters and digits."""
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
GOOD = ("SUCCEEDED", "SKIPPED")


def watch(
    runs: Kubeflow, run_id: str, report: Callable[[str], None], *, limit: float = 0.0, every: float = 5.0
) -> None:
    """Wait until a run ends, also for a server that does not answer, and report each change of a stage.

    The server is asked every `every` seconds, for at most `limit` seconds; 0 for no limit.

    Raises:
        RunFailedError: it failed or was cancelled.
        StoppedError: the limit or an interrupt came first; the run continues.
    """
    link = runs.server.connection.run_link(run_id)
    began = time.monotonic()
    reported: dict[str, str] = {}
    try:
        while True:
            try:
                run = runs.details(run_id)
            except StorageError as error:
                report(f"still waiting: {error}")
            else:
                states = {str(task.task_id): (task.display_name, task.state) for task in tasks_of(run)}
                for key, (name, state) in (states | {"run": ("run", run.state)}).items():
                    if state and reported.get(key) != state:
                        reported[key] = state
                        report(f"{name}: {state.lower()}")
                if run.state in ENDED:
                    break
            left = began + limit - time.monotonic() if limit else every
            if left <= 0:
                raise StoppedError(f"the run has not ended within {limit:g} seconds, and continues: {link}")
            time.sleep(min(every, left))
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"waiting was interrupted, and the run continues: {link} shows it, and Terminate there ends it; the same "
            "command waits again"
        ) from error
    if run.state not in GOOD:
        raise RunFailedError(f"the run {run.display_name} {_ending(run)}: {link}")


def tasks_of(run: Any) -> list[Any]:
    """The tasks of a run; empty before it has begun."""
    return (run.run_details.task_details if run.run_details else None) or []


def _ending(run: Any) -> str:
    if run.state == "CANCELED":
        return "was cancelled"
    failed = [task for task in tasks_of(run) if task.state == "FAILED"]
    # A group of tasks fails because of a task inside it, which has the reason.
    parents = {task.parent_task_id for task in failed}
    leaves = [task for task in failed if task.task_id not in parents] or failed
    reasons = [f"{task.display_name}{_message(task)}" for task in leaves]
    return f"failed in {'; '.join(reasons)}" if reasons else f"failed{_message(run)}"


def _message(thing: Any) -> str:
    return f" ({thing.error.message})" if thing.error and thing.error.message else ""


OUTCOMES = {
    "passed": "passed the gate",
    "awaiting": "awaits an approval",
    "rejected": "did not pass the gate",
}
"""A version's outcome in words."""


def run_summary(run: Any, link: str, judged: Sequence[JudgedVersion]) -> str:
    """The verdicts, scores and stages of a run in Markdown, with a link to its page.

    `run` has its tasks, as the server's API returns it; `judged` are the versions that its gate judged.
    """
    state = str(run.state or "PENDING").lower()
    lines = [
        f"## {plain_markdown(run.display_name)}: {state}",
        "",
        # Between < and > an address may hold neither them nor spaces.
        f"Run [{plain_markdown(run.run_id)}](<{quote(link, safe=ADDRESS)}>)",
        "",
    ]
    for each in judged:
        lines += [
            f"**Version {each.version} of {plain_markdown(each.name)} {OUTCOMES[each.outcome]}.** "
            + ("It is the champion now." if each.champion else "It is not the champion."),
            *([f"The run cost {plain_markdown(each.cost)}."] if each.cost else []),
            "",
            *(f"- {plain_markdown(rule)}" for rule in each.rules),
            "",
        ]
        if each.scores:
            rows = (f"| {plain_markdown(name)} | {plain_markdown(value)} |" for name, value in each.scores.items())
            lines += ["| score | value, protocol, of |", "|---|---|", *rows, ""]
    # Kubeflow Pipelines adds steps of its own.
    names = [(str(task.display_name or ""), task) for task in tasks_of(run)]
    tasks = [task for name, task in names if name and name != "root" and not name.endswith("-driver")]
    if tasks:
        lines += ["| stage | state | time |", "|---|---|---:|", *map(_row, tasks), ""]
    return "\n".join(lines)


def outputs(judged: Sequence[JudgedVersion]) -> str:
    """The worst outcome of a run and its first version as lines of NAME=VALUE, GitHub's form of a step's outputs."""
    if not judged:
        return ""
    worst = max(judged, key=lambda each: list(OUTCOMES).index(each.outcome))
    check_model_name(worst.name)  # it becomes a line
    return f"verdict={worst.outcome}\nmodel={worst.name}\nversion={worst.version}\n"


def add_summary(file: Path, text: str) -> None:
    """Append to a file, which other steps of a job may have begun."""
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; give a file in a folder of yours") from error


def _row(task: Any) -> str:
    began, ended = task.start_time, task.end_time
    took = clock((ended - began).total_seconds()) if began and ended and ended >= began else ""
    reason = f" {plain_markdown(_message(task))}" if _message(task) else ""
    return f"| {plain_markdown(task.display_name)} | {str(task.state or '').lower()}{reason} | {took} |"
