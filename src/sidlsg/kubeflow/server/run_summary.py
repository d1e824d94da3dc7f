"""What a run came to, in Markdown: for a page of whoever waited for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidlsg.kubeflow.server.watch import tasks_of
from sidlsg.registry.names import check_name
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.progress import clock
from sidlsg.runtime.texts import plain_markdown

if TYPE_CHECKING:  # MLflow takes seconds
    from sidlsg.registry.judged import Judged

ADDRESS = "%/:?#@!$&'()*+,;=-._~"
"""What an address may hold besides letters and digits."""

OUTCOMES = {
    "passed": "passed the gate",
    "awaiting": "awaits an approval",
    "rejected": "did not pass the gate",
}
"""A version's outcome in words."""


def run_summary(run: Any, link: str, judged: Sequence[Judged]) -> str:
    """The verdicts, the stages and the scores of a run.

    Args:
        run: as the server's API has it, with its tasks.
        link: of its page.
        judged: the versions that its gate judged.
    """
    state = str(run.state or "PENDING").lower()
    lines = [
        f"## {plain_markdown(run.display_name)}: {state}",
        "",
        f"Run [{plain_markdown(run.run_id)}](<{_address(link)}>)",
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
    tasks = [task for task in tasks_of(run) if not _of_the_server(task)]
    if tasks:
        lines += ["| stage | state | time |", "|---|---|---:|", *map(_row, tasks), ""]
    return "\n".join(lines)


def outputs(judged: Sequence[Judged]) -> str:
    """The outcome of a run as lines of NAME=VALUE, as GitHub takes a step's outputs.

    Of several versions, the first of the worst outcome is named.
    """
    if not judged:
        return ""
    worst = max(judged, key=lambda each: list(OUTCOMES).index(each.outcome))
    check_name(worst.name)  # it becomes a line
    return f"verdict={worst.outcome}\nmodel={worst.name}\nversion={worst.version}\n"


def require_writable(file: Path) -> None:
    """Say now, not when a run of hours has ended, that a file cannot be added to.

    Raises:
        InputError: it cannot be written.
    """
    add_summary(file, "")


def add_summary(file: Path, text: str) -> None:
    """Write at the end of a file, which other steps of a job may have begun.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; give a file in a folder of yours") from error


def _of_the_server(task: Any) -> bool:
    """Steps that Kubeflow Pipelines adds of itself."""
    name = str(task.display_name or "")
    return not name or name == "root" or name.endswith("-driver")


def _row(task: Any) -> str:
    began, ended = task.start_time, task.end_time
    took = clock((ended - began).total_seconds()) if began and ended and ended >= began else ""
    reason = f" ({plain_markdown(task.error.message)})" if task.error and task.error.message else ""
    return f"| {plain_markdown(task.display_name)} | {str(task.state or '').lower()}{reason} | {took} |"


def _address(link: str) -> str:
    """A link that does not end before its end: between < and >, where neither they nor spaces may be."""
    return quote(link, safe=ADDRESS)
