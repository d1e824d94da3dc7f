"""The file that declares schedules."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.compile import CompiledPipeline, get_compiled
from sidlsg.kubeflow.server.cron import check_time_zone, kubeflow_cron
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml

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


def read_schedules(path: Path) -> Schedules:
    """Read a file of schedules, and compile their pipelines.

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
        _read(f"{path}, schedule {number}", table, path.parent, server) for number, table in enumerate(listed, 1)
    )
    names = [schedule.name for schedule in schedules]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path} has two schedules named {twice[0]!r}; give each a name of its own")
    return Schedules(experiment=experiment, schedules=schedules)


def _read(where: str, table: dict[str, Any], folder: Path, server: str) -> Schedule:
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
        compiled = get_compiled(table["pipeline"], folder)
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
