"""Makes a server's recurring runs what a file of schedules declares."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidlsg.kubeflow.server.schedule_file import Schedule, Schedules
from sidlsg.kubeflow.server.server import Server, pages
from sidlsg.kubeflow.server.versions import ensure_experiment, ensure_version, find_experiment

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


def difference(server: Server, declared: Schedules) -> list[Change]:
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


def synchronise(server: Server, declared: Schedules, changes: list[Change], report: Callable[[str], None]) -> None:
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


def _create(server: Server, experiment: str, schedule: Schedule) -> Found:
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


def _switch(server: Server, found: Found, enabled: bool) -> None:
    service = server.recurring
    call = (
        service.recurring_run_service_enable_recurring_run
        if enabled
        else service.recurring_run_service_disable_recurring_run
    )
    what = f"{'enable' if enabled else 'disable'} the recurring run {found.name!r}"
    server.ask(what, lambda: call(found.recurring_run_id))


def _list(server: Server, experiment: str) -> list[Found]:
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
