"""What the service must not forget: the deliveries that it took, and each cause with its run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.errors import InputError

TABLES = """
create table if not exists deliveries (id text primary key, seen real not null) without rowid;
create table if not exists causes (
    name text primary key, pipeline text not null, version text not null, parameters text not null,
    made real not null, run_id text not null default ''
) without rowid;
"""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A run that is wanted; its name comes from its cause, so the same cause has the same name."""

    name: str
    pipeline: str
    version: str
    parameters: Mapping[str, Any]


class Ledger:
    """A SQLite file. What a method wrote is on the disk when it returns, whatever is killed afterwards."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: of the file; made where it is not there, as its folder is.

        Raises:
            InputError: the file is no database, or cannot be written.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as database:
                database.execute("pragma journal_mode = wal")
                database.executescript(TABLES)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path} cannot be used as the service's database: {error}; give another file") from error

    def take(self, delivery_id: str, intents: list[Intent], now: float) -> list[Intent]:
        """Store a delivery and what it asks for, both or neither.

        Returns:
            The intents whose cause was not known; none for a delivery that was taken before.
        """
        with closing(self._open()) as database, database:
            database.execute("begin immediate")
            first = database.execute("insert or ignore into deliveries values (?, ?)", (delivery_id, now)).rowcount
            return [one for one in intents if first and _add(database, one, now)]

    def unstarted(self) -> list[Intent]:
        """List the intents without a run, oldest first: also those that a killed process left."""
        with closing(self._open()) as database:
            rows = database.execute(
                "select name, pipeline, version, parameters from causes where run_id = '' order by made, name"
            ).fetchall()
        return [Intent(name=n, pipeline=p, version=v, parameters=json.loads(text)) for n, p, v, text in rows]

    def started(self, name: str, run_id: str) -> None:
        """Store that the cause has its run; a later one does not replace it."""
        with closing(self._open()) as database, database:
            database.execute("update causes set run_id = ? where name = ? and run_id = ''", (run_id, name))

    def prune(self, before: float) -> int:
        """Forget deliveries that came before a time; causes stay. Returns how many."""
        with closing(self._open()) as database, database:
            return database.execute("delete from deliveries where seen < ?", (before,)).rowcount

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=10.0)
        # WAL's default leaves the last transactions to the operating system: a power cut would lose an answered one.
        database.execute("pragma synchronous = full")
        return database


def _add(database: sqlite3.Connection, intent: Intent, now: float) -> bool:
    values = (intent.name, intent.pipeline, intent.version, json.dumps(dict(intent.parameters), sort_keys=True), now)
    added = database.execute(
        "insert or ignore into causes (name, pipeline, version, parameters, made) values (?, ?, ?, ?, ?)", values
    )
    return added.rowcount == 1
