"""Recurring runs on a server, made to match a file of schedules.

Every call raises InputError if the server refuses it, and StorageError if it does not answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from sidlsg.kubeflow.compile import CompiledPipeline
from sidlsg.kubeflow.server.connection import PipelinesServer, api, pages
from sidlsg.kubeflow.server.runs import ensure_experiment, ensure_version, find_experiment
from sidlsg.kubeflow.toml_forms import Form, read_form
from sidlsg.runtime.errors import InputError, nearest

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),
)
"""Each field's name, least and greatest number, and the words for its numbers.

Libraries read other dialects: what the server refuses, such as 7 for Sunday, and not `?`.
"""
PART = re.compile(r"([*?]|(?P<low>\w+)(-(?P<high>\w+))?)(/(?P<step>[0-9]+))?")


def kubeflow_cron(cron: str) -> str:
    """A cron expression of five fields, or six with seconds in front, as Kubeflow Pipelines reads it: with six.

    Raises:
        ValueError: a field cannot be used.
    """
    fields = cron.split()
    if len(fields) == len(FIELDS) - 1:
        fields = ["0", *fields]
    if len(fields) != len(FIELDS):
        raise ValueError(f"it has {len(fields)} fields; give five or six, such as '0 3 * * mon', at three every Monday")
    for field, (name, least, greatest, words) in zip(fields, FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, least, greatest, words):
                raise ValueError(
                    f"it has {part!r} for the {name}; allowed: {least} to {greatest}"
                    f"{f' or {words[0]} to {words[-1]}' if words else ''}, *, A-B and any of these with /STEP"
                )
    return " ".join(fields)


def _fits(part: str, least: int, greatest: int, words: tuple[str, ...]) -> bool:
    def number(text: str) -> int:
        if text.casefold() in words:
            return words.index(text.casefold()) + least
        return int(text) if text.isascii() and text.isdecimal() else -1

    match = PART.fullmatch(part)
    if match is None or (match["step"] and not 0 < int(match["step"]) <= greatest):
        return False
    if not match["low"]:
        return True
    return least <= number(match["low"]) <= number(match["high"] or match["low"]) <= greatest


def check_time_zone(time_zone: str, server: str) -> None:
    """Check that an expression in one of IANA's time zones means the same to a server in another.

    Raises:
        ValueError: one is unknown, or they differ.
    """
    known = zoneinfo.available_timezones()
    for zone in (time_zone, server):
        if zone not in known:
            raise ValueError(
                f"time zone {zone!r} is unknown{nearest(zone, known)}; give one such as Europe/Berlin or UTC"
            )
    if time_zone != server:
        raise ValueError(
            f"time zone {time_zone} is not the server's, {server}: Kubeflow Pipelines reads all expressions in one; "
            f"write this one in {server}, or give the server's scheduled workflow controller "
            f'CRON_SCHEDULE_TIMEZONE={time_zone} and the file server_time_zone = "{time_zone}"'
        )


class DeclaredSchedule(Form):
    """One schedule in the file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pipeline: str
    cron: Annotated[str, AfterValidator(kubeflow_cron)]
    time_zone: str
    parameters: dict[str, Any] = Field(default={})
    max_concurrency: int = Field(default=1, ge=1, le=10)
    """Kubeflow Pipelines' own limit is 10."""
    catchup: bool = False
    enabled: bool = True


class ScheduleFile(Form):
    """A file of schedules."""

    experiment: str = Field(min_length=1)
    """Of all its schedules."""
    server_time_zone: str = "UTC"
    schedule: list[DeclaredSchedule] = Field(default=[])

    @model_validator(mode="after")
    def _check(self) -> ScheduleFile:
        names = [schedule.name for schedule in self.schedule]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two schedules are named {twice[0]!r}; give each a name of its own")
        for schedule in self.schedule:
            try:
                check_time_zone(schedule.time_zone, self.server_time_zone)
            except ValueError as error:
                raise ValueError(f"[[schedule]] {schedule.name!r}: {error}") from error
        return self


class Schedule(DeclaredSchedule):
    """A declared schedule with its compiled pipeline and its checked parameters."""

    compiled: CompiledPipeline

    @property
    def digest(self) -> str:
        """Of everything that cannot be changed in a recurring run once it is made."""
        content = [self.compiled.name, self.compiled.version, self.cron, self.parameters]
        text = json.dumps([*content, self.max_concurrency, self.catchup], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """All schedules of one experiment."""

    experiment: str
    schedules: tuple[Schedule, ...]


def read_schedules(path: Path, get_compiled: Callable[[str, Path], CompiledPipeline]) -> Schedules:
    """Read a file of schedules.

    `get_compiled` compiles a pipeline by name, or reads a compiled file relative to a folder.

    Raises:
        InputError: it cannot be read, or something in it is unknown, missing or of another type.
    """
    declared = read_form(ScheduleFile, path, "give a TOML file of schedules")
    schedules = []
    for each in declared.schedule:
        try:
            compiled = get_compiled(each.pipeline, path.parent)
            parameters = compiled.checked(each.parameters)
        except InputError as error:
            raise InputError(f"{path}: [[schedule]] {each.name!r}: {error}") from error
        schedules.append(Schedule(**(each.model_dump() | {"parameters": parameters, "compiled": compiled})))
    return Schedules(experiment=declared.experiment, schedules=tuple(schedules))


MARK = re.compile(r"made by sidlsg schedule: (\S+) ([0-9a-f]{24})")
"""The description of a recurring run that this code made: the schedule's name and digest."""


@dataclass(frozen=True, kw_only=True)
class RecurringRun:
    """A recurring run on the server that this code made."""

    recurring_run_id: str
    name: str
    digest: str
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """The difference between a schedule and the server."""

    name: str
    schedule: Schedule | None
    """None if the file has it no more."""
    keep: RecurringRun | None
    """The recurring run that is as declared, except for `enabled`."""
    remove: tuple[RecurringRun, ...]

    @property
    def kind(self) -> str:
        """create, update, delete, enable, disable or unchanged."""
        if self.schedule is None:
            return "delete"
        if self.keep is None:
            return "update" if self.remove else "create"
        if self.keep.enabled != self.schedule.enabled:
            return "enable" if self.schedule.enabled else "disable"
        return "update" if self.remove else "unchanged"


def difference(server: PipelinesServer, declared: Schedules) -> list[Change]:
    """Compare the file with the recurring runs that this code made in its experiment; others are ignored."""
    found = server.ask("list recurring runs", lambda: _list(server, declared.experiment))
    schedules = {schedule.name: schedule for schedule in declared.schedules}
    changes = []
    for name in [*schedules, *sorted({each.name for each in found} - schedules.keys())]:
        schedule, same = schedules.get(name), [each for each in found if each.name == name]
        keep = next((each for each in same if schedule and each.digest == schedule.digest), None)
        remove = tuple(each for each in same if each is not keep)
        changes.append(Change(name=name, schedule=schedule, keep=keep, remove=remove))
    return changes


def synchronise(
    server: PipelinesServer, declared: Schedules, changes: list[Change], report: Callable[[str], None]
) -> None:
    """Make the changes. After an interruption, the difference shows what is left.

    A recurring run cannot be edited, so a new one replaces the old. It is made disabled, the old one is deleted, and
    then it is enabled: two of one schedule are never active.
    """
    service = server.recurring
    for change in changes:
        schedule, keep = change.schedule, change.keep
        if schedule is not None and keep is None:
            keep = _create(server, declared.experiment, schedule)
        for old in change.remove:
            server.remove(
                f"delete the recurring run {old.name!r}",
                lambda old=old: service.recurring_run_service_delete_recurring_run(old.recurring_run_id),  # type: ignore[misc]
            )
        if schedule is not None and keep is not None and keep.enabled != schedule.enabled:
            word = "enable" if schedule.enabled else "disable"
            switch = getattr(service, f"recurring_run_service_{word}_recurring_run")
            server.ask(f"{word} the recurring run {keep.name!r}", partial(switch, keep.recurring_run_id))
        if change.kind != "unchanged":
            report(f"{change.kind}: {change.name}")


def _create(server: PipelinesServer, experiment: str, schedule: Schedule) -> RecurringRun:
    body = api.V2beta1RecurringRun(
        display_name=schedule.name,
        description=f"made by sidlsg schedule: {schedule.name} {schedule.digest}",
        experiment_id=ensure_experiment(server, experiment),
        pipeline_version_reference=ensure_version(server, schedule.compiled).reference,
        runtime_config=api.V2beta1RuntimeConfig(parameters=schedule.parameters),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule.cron)),
        max_concurrency=str(schedule.max_concurrency),
        no_catchup=not schedule.catchup,
        mode=api.RecurringRunMode.DISABLE,
    )

    def find() -> RecurringRun | None:
        found = _list(server, experiment)
        return next((each for each in found if (each.name, each.digest) == (schedule.name, schedule.digest)), None)

    def create() -> RecurringRun:
        made = server.recurring.recurring_run_service_create_recurring_run(body)
        run_id = str(made.recurring_run_id)
        return RecurringRun(recurring_run_id=run_id, name=schedule.name, digest=schedule.digest, enabled=False)

    return server.once(f"make the recurring run {schedule.name!r}", find, create)


def _list(server: PipelinesServer, experiment: str) -> list[RecurringRun]:
    """The recurring runs that this code made, the oldest first, without a retry."""
    experiment_id = find_experiment(server, experiment)
    if experiment_id is None:
        return []
    listed = pages(
        server.recurring.recurring_run_service_list_recurring_runs,
        "recurring_runs",
        experiment_id=experiment_id,
        sort_by="created_at asc",
    )
    marked = ((each, MARK.fullmatch(each.description or "")) for each in listed)
    return [
        RecurringRun(
            recurring_run_id=str(each.recurring_run_id), name=mark[1], digest=mark[2], enabled=each.status == "ENABLED"
        )
        for each, mark in marked
        if mark
    ]
