"""Makes a server's recurring runs what a file of schedules declares."""

from __future__ import annotations

import hashlib
import json
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.compile import CompiledPipeline
from sidlsg.kubeflow.server.connection import PipelinesServer, pages
from sidlsg.kubeflow.server.runs import ensure_experiment, ensure_version, find_experiment
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),
)
"""Each field's name, least and greatest number, and the words that stand for numbers from the least on."""
PART = re.compile(r"(?P<star>[*?])|(?P<low>\w+)(-(?P<high>\w+))?")
EXAMPLE = "'0 3 * * mon', at three every Monday"


def kubeflow_cron(cron: str) -> str:
    """Write an expression with six fields, as Kubeflow Pipelines' own reader takes them.

    Args:
        cron: five fields as in crontab, or six with seconds in front. Kubeflow Pipelines would take five for the first
            five of six.

    Raises:
        InputError: a field cannot be used.
    """
    fields = cron.split()
    if len(fields) == len(FIELDS) - 1:
        fields = ["0", *fields]
    if len(fields) != len(FIELDS):
        raise InputError(f"cron {cron!r} has {len(fields)} fields; give five or six, such as {EXAMPLE}")
    for field, (name, least, greatest, words) in zip(fields, FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, least, greatest, words):
                raise InputError(
                    f"cron {cron!r} has {part!r} for the {name}; allowed: {least} to {greatest}"
                    f"{f' or {words[0]} to {words[-1]}' if words else ''}, *, A-B and any of these with /STEP"
                )
    return " ".join(fields)


def check_time_zone(time_zone: str, server: str) -> None:
    """Check that an expression in one time zone means the same to a server in another.

    Args:
        time_zone: that the expression is written in; IANA's name, such as Europe/Berlin.
        server: that the server reads every expression in.

    Raises:
        InputError: one is unknown, or they differ.
    """
    known = zoneinfo.available_timezones()
    for zone in (time_zone, server):
        if zone not in known:
            raise InputError(
                f"time zone {zone!r} is unknown{nearest(zone, known)}; give one such as Europe/Berlin or UTC"
            )
    if time_zone != server:
        raise InputError(
            f"time zone {time_zone} is not the server's, {server}: Kubeflow Pipelines reads all expressions in one; "
            f"write this one in {server}, or give the server's scheduled workflow controller "
            f'CRON_SCHEDULE_TIMEZONE={time_zone} and the file server_time_zone = "{time_zone}"'
        )


def _fits(part: str, least: int, greatest: int, words: tuple[str, ...]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and 0 < int(step) <= greatest):
        return False
    match = PART.fullmatch(span)
    if match is None:
        return False
    if match["star"]:
        return True
    low = _number(match["low"], least, words)
    high = low if match["high"] is None else _number(match["high"], least, words)
    return least <= low <= high <= greatest


def _number(text: str, least: int, words: tuple[str, ...]) -> int:
    """The number that a text stands for; -1 for none."""
    if text.casefold() in words:
        return words.index(text.casefold()) + least
    return int(text) if text.isascii() and text.isdecimal() else -1


TYPES: Mapping[str, type] = {
    "name": str,
    "pipeline": str,
    "cron": str,
    "time_zone": str,
    "parameters": dict,
    "max_concurrency": int,
    "catchup": bool,
    "enabled": bool,
}
"""What a schedule may have."""
REQUIRED = ("name", "pipeline", "cron", "time_zone")
WORDS = {str: "text", dict: "a table", int: "a whole number", bool: "true or false"}
MOST_AT_ONCE = 10
"""Kubeflow Pipelines' own limit of runs of one schedule at a time."""
SERVER_TIME_ZONE = "UTC"
"""Kubeflow Pipelines' own, where nobody gave it another."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One recurring run, as declared."""

    name: str
    compiled: CompiledPipeline
    cron: str
    """As Kubeflow Pipelines reads it, in the server's time zone."""
    parameters: Mapping[str, Any]
    max_concurrency: int = 1
    catchup: bool = False
    enabled: bool = True

    @property
    def digest(self) -> str:
        """Of everything that cannot be changed in a recurring run once it is made."""
        content = [self.compiled.name, self.compiled.version, self.cron, dict(self.parameters)]
        text = json.dumps([*content, self.max_concurrency, self.catchup], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """All schedules of one experiment."""

    experiment: str
    schedules: tuple[Schedule, ...]


def read_schedules(path: Path, get_compiled: Callable[[str, Path], CompiledPipeline]) -> Schedules:
    """Read a file of schedules.

    Args:
        path: the file.
        get_compiled: compiles a pipeline by name, or reads a compiled file relative to a folder.

    Raises:
        InputError: it cannot be read, or something in it is unknown, missing or of another kind.
    """
    tables = read_toml(path, "give a TOML file of schedules")
    _known(f"{path}", tables, ("experiment", "server_time_zone", "schedule"))
    experiment = tables.get("experiment")
    if not isinstance(experiment, str) or not experiment:
        raise InputError(f'{path} names no experiment, which its schedules are kept in; give experiment = "NAME"')
    server = tables.get("server_time_zone", SERVER_TIME_ZONE)
    if not isinstance(server, str):
        raise InputError(f"{path}: server_time_zone is {server!r}; it must be text")
    listed = tables.get("schedule", [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise InputError(f"{path}: schedule is not a list of tables; begin each schedule with [[schedule]]")
    schedules = tuple(
        _read(f"{path}, schedule {number}", table, lambda pipeline: get_compiled(pipeline, path.parent), server)
        for number, table in enumerate(listed, 1)
    )
    names = [schedule.name for schedule in schedules]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path} has two schedules named {twice[0]!r}; give each a name of its own")
    return Schedules(experiment=experiment, schedules=schedules)


def _read(where: str, table: dict[str, Any], compile_: Callable[[str], CompiledPipeline], server: str) -> Schedule:
    _known(where, table, TYPES)
    for key in REQUIRED:
        if key not in table:
            raise InputError(f"{where} has no {key}; give it")
    for key, value in table.items():
        if type(value) is not TYPES[key]:
            raise InputError(f"{where}: {key} is {value!r}; it must be {WORDS[TYPES[key]]}")
    name, most = table["name"], table.get("max_concurrency", 1)
    if not NAME.fullmatch(name):
        raise InputError(f"{where}: name {name!r} is not allowed; give small letters, digits and hyphens, at most 63")
    if not 1 <= most <= MOST_AT_ONCE:
        raise InputError(f"{where}: max_concurrency is {most}; give 1 to {MOST_AT_ONCE}")
    try:
        check_time_zone(table["time_zone"], server)
        compiled = compile_(table["pipeline"])
        return Schedule(
            name=name,
            compiled=compiled,
            cron=kubeflow_cron(table["cron"]),
            parameters=compiled.checked(table.get("parameters", {})),
            max_concurrency=most,
            catchup=table.get("catchup", False),
            enabled=table.get("enabled", True),
        )
    except InputError as error:
        raise InputError(f"{where} ({name}): {error}") from error


def _known(where: str, table: Mapping[str, Any], allowed: Any) -> None:
    for key in table:
        if key not in allowed:
            raise InputError(f"{where} has {key!r}, which is unknown{nearest(key, allowed)}; allowed: "
                             f"{', '.join(allowed)}")  # fmt: skip


MARK = re.compile(r"made by sidlsg schedule: (\S+) ([0-9a-f]{24})")
"""What the description of a recurring run is when this code made it: the schedule's name and digest."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A recurring run on the server that this code made."""

    recurring_run_id: str
    name: str
    digest: str
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one schedule needs: nothing, or some of the three."""

    name: str
    schedule: Schedule | None
    """None where the file has it no more."""
    keep: Found | None
    """The recurring run that is as declared, but for `enabled`."""
    remove: tuple[Found, ...]

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
    """Compare the file with the recurring runs that this code made in its experiment; others are not looked at.

    Raises:
        InputError: the server refused something.
        StorageError: it does not answer.
    """
    found = server.ask("list recurring runs", lambda: _list(server, declared.experiment))
    changes = []
    for schedule in declared.schedules:
        same = [each for each in found if each.name == schedule.name]
        keep = next((each for each in same if each.digest == schedule.digest), None)
        remove = tuple(each for each in same if each is not keep)
        changes.append(Change(name=schedule.name, schedule=schedule, keep=keep, remove=remove))
    names = {schedule.name for schedule in declared.schedules}
    for name in sorted({each.name for each in found} - names):
        old = tuple(each for each in found if each.name == name)
        changes.append(Change(name=name, schedule=None, keep=None, remove=old))
    return changes


def synchronise(
    server: PipelinesServer, declared: Schedules, changes: list[Change], report: Callable[[str], None]
) -> None:
    """Make the changes. After a stop in the middle, the difference tells what is left.

    A recurring run cannot be edited, so a new one takes the place of the old. It is made disabled, the old one is
    deleted, and then it is enabled: two of one schedule are never active.

    Raises:
        InputError: the server refused something.
        StorageError: it does not answer; the same call goes on.
    """
    for change in changes:
        keep = change.keep
        if change.schedule is not None and keep is None:
            keep = _create(server, declared.experiment, change.schedule)
        for old in change.remove:
            server.gone(
                f"delete the recurring run {old.name!r}",
                lambda old=old: server.recurring.recurring_run_service_delete_recurring_run(old.recurring_run_id),  # type: ignore[misc]
            )
        if change.schedule is not None and keep is not None and keep.enabled != change.schedule.enabled:
            _switch(server, keep, change.schedule.enabled)
        if change.kind != "unchanged":
            report(f"{change.kind}: {change.name}")


def _create(server: PipelinesServer, experiment: str, schedule: Schedule) -> Found:
    api = server.api
    version = ensure_version(server, schedule.compiled)
    body = api.V2beta1RecurringRun(
        display_name=schedule.name,
        description=f"made by sidlsg schedule: {schedule.name} {schedule.digest}",
        experiment_id=ensure_experiment(server, experiment),
        pipeline_version_reference=version.reference(server),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(schedule.parameters)),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule.cron)),
        max_concurrency=str(schedule.max_concurrency),
        no_catchup=not schedule.catchup,
        mode=api.RecurringRunMode.DISABLE,
    )

    def find() -> Found | None:
        found = _list(server, experiment)
        return next((each for each in found if (each.name, each.digest) == (schedule.name, schedule.digest)), None)

    def create() -> Found:
        made = server.recurring.recurring_run_service_create_recurring_run(body)
        return Found(
            recurring_run_id=str(made.recurring_run_id), name=schedule.name, digest=schedule.digest, enabled=False
        )

    return server.once(f"make the recurring run {schedule.name!r}", find, create)


def _switch(server: PipelinesServer, found: Found, enabled: bool) -> None:
    service = server.recurring
    call = (
        service.recurring_run_service_enable_recurring_run
        if enabled
        else service.recurring_run_service_disable_recurring_run
    )
    what = f"{'enable' if enabled else 'disable'} the recurring run {found.name!r}"
    server.ask(what, lambda: call(found.recurring_run_id))


def _list(server: PipelinesServer, experiment: str) -> list[Found]:
    """The recurring runs that this code made, the oldest first, without a retry."""
    experiment_id = find_experiment(server, experiment)
    if experiment_id is None:
        return []
    listed: list[Any] = pages(
        server.recurring.recurring_run_service_list_recurring_runs,
        "recurring_runs",
        experiment_id=experiment_id,
        sort_by="created_at asc",
    )
    return [
        Found(
            recurring_run_id=str(each.recurring_run_id), name=mark[1], digest=mark[2], enabled=each.status == "ENABLED"
        )
        for each in listed
        if (mark := MARK.fullmatch(each.description or ""))
    ]
