"""The service's database: the deliveries that it accepted, their events, and each cause with its result."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

CREATED, ALIAS, TAG = "model_version.created", "model_version_alias.created", "model_version_tag.set"
KINDS = (CREATED, ALIAS, TAG)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change of a model version."""

    kind: str
    model: str
    version: str
    alias: str = ""
    tag: str = ""
    """The key of the tag that was set."""


def parse_event(body: bytes) -> Event | None:
    """Read the body of a delivery. Returns None for an event of a kind that no rule can name."""
    try:
        content = parse_json(body)
    except ValueError as error:
        raise InputError("the body of the delivery is not JSON; MLflow's webhooks send it") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise InputError("the body of the delivery has no table 'data'; MLflow's webhooks send one")
    kind = f"{content.get('entity')}.{content.get('action')}"
    if kind not in KINDS:
        return None
    return Event(
        kind=kind,
        model=_word(data, "name"),
        version=_word(data, "version"),
        alias=_word(data, "alias") if kind == ALIAS else "",
        tag=_word(data, "key") if kind == TAG else "",
    )


def _word(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    # MLflow's database takes no such characters, and no name is so long.
    if not isinstance(value, str) or len(value) > 1000 or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{key!r} of the delivery is not a short text")
    return value


FILE = "ledger.db"
WANTED, DONE, OLD = "wanted", "done", "old"
"""States of a cause; an old one precedes the service's first scan, and is left alone."""
_TABLES = """
create table if not exists deliveries (id text primary key, seen real not null) without rowid;
create table if not exists events (number integer primary key autoincrement, event text not null);
create table if not exists causes (
    name text primary key, rule text not null, what text not null, action text not null,
    made real not null, state text not null, result text not null default ''
) without rowid;
create table if not exists failures (what text primary key, why text not null, again real not null) without rowid;
create table if not exists facts (name text primary key, value text not null) without rowid;
"""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """An action to take once; the name follows from the event, so the same event has the same cause."""

    name: str
    rule: str
    what: str
    """The event, for people."""
    action: Mapping[str, Any]
    """`{"run": …}`, `{"copy": …}` or `{"serve": …}`, with its arguments."""


@dataclass(frozen=True, kw_only=True)
class EventFailure:
    """Why something failed last, and when it is tried again, in seconds since 1970."""

    why: str
    again: float


class Ledger:
    """A SQLite file. What a method wrote survives a kill and a power cut once it returned."""

    def __init__(self, path: Path) -> None:
        """Open the file; it and its folder are made if missing.

        Raises:
            InputError: the file is not a database, or cannot be written.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as database:
                database.execute("pragma journal_mode = wal")
                database.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path} cannot be used as the service's database: {error}; give another file") from error

    def take(self, delivery_id: str, event: Event | None, now: float) -> bool:
        """Store a delivery and its event atomically. Returns whether it is new."""
        with closing(self._open()) as database, database:
            database.execute("begin immediate")
            new = database.execute("insert or ignore into deliveries values (?, ?)", (delivery_id, now)).rowcount == 1
            if new and event is not None:
                database.execute("insert into events (event) values (?)", (json.dumps(asdict(event), sort_keys=True),))
            return new

    def events(self) -> dict[Event, list[int]]:
        """The events without causes yet, oldest first, with the numbers of all deliveries of each."""
        with closing(self._open()) as database:
            rows = database.execute("select number, event from events order by number").fetchall()
        found: dict[Event, list[int]] = {}
        for number, text in rows:
            found.setdefault(Event(**parse_json(text)), []).append(number)
        return found

    def add(self, causes: Iterable[Cause], now: float, state: str = WANTED, events: Iterable[int] = ()) -> list[Cause]:
        """Store causes and forget the events that they came from, atomically. Returns the causes that are new."""
        with closing(self._open()) as database, database:
            database.execute("begin immediate")
            new = [cause for cause in causes if _insert(database, cause, now, state)]
            database.executemany("delete from events where number = ?", [(number,) for number in events])
            return new

    def wanted(self) -> list[Cause]:
        """The causes without a result yet, oldest first, including those that a killed process left."""
        return [cause for cause, state, _, _ in self.causes() if state == WANTED]

    def causes(self) -> list[tuple[Cause, str, str, float]]:
        """Every cause with its state, result and time, oldest first."""
        with closing(self._open()) as database:
            rows = database.execute(
                "select name, rule, what, action, state, result, made from causes order by made, name"
            ).fetchall()
        return [
            (Cause(name=name, rule=rule, what=what, action=parse_json(action)), state, result, made)
            for name, rule, what, action, state, result, made in rows
        ]

    def failed(self, what: str, why: str, again: float) -> None:
        """Store a failure of something, such as a cause by its name."""
        self._write("insert or replace into failures values (?, ?, ?)", what, why, again)

    def worked(self, what: str) -> None:
        """Forget a failure."""
        self._write("delete from failures where what = ?", what)

    def failures(self) -> dict[str, EventFailure]:
        """The failures, by what failed."""
        with closing(self._open()) as database:
            rows = database.execute("select what, why, again from failures order by what").fetchall()
        return {what: EventFailure(why=why, again=again) for what, why, again in rows}

    def forget_failures(self) -> None:
        """Forget all failures: a service that starts tries all of them again."""
        self._write("delete from failures")

    def done(self, name: str, result: str) -> None:
        """Store the result of a cause; a later one does not replace it."""
        self._write("update causes set state = ?, result = ? where name = ? and state = ?", DONE, result, name, WANTED)

    def fact(self, name: str) -> str:
        """The value of a note; empty if there is none."""
        with closing(self._open()) as database:
            row = database.execute("select value from facts where name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def note(self, name: str, value: str) -> None:
        """Store a note."""
        self._write("insert or replace into facts values (?, ?)", name, value)

    def prune(self, before: float) -> int:
        """Forget the deliveries before a time; causes stay. Returns how many."""
        return self._write("delete from deliveries where seen < ?", before)

    def _write(self, statement: str, *values: str | float) -> int:
        """Run one statement in a transaction. Returns the number of rows that changed."""
        with closing(self._open()) as database, database:
            return database.execute(statement, values).rowcount

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=10.0)
        # By default, WAL leaves the last transactions to the operating system: a power cut loses answered deliveries.
        database.execute("pragma synchronous = full")
        return database


def _insert(database: sqlite3.Connection, cause: Cause, now: float, state: str) -> bool:
    values = (cause.name, cause.rule, cause.what, json.dumps(dict(cause.action), sort_keys=True), now, state)
    added = database.execute(
        "insert or ignore into causes (name, rule, what, action, made, state) values (?, ?, ?, ?, ?, ?)", values
    )
    return added.rowcount == 1


def lines(ledger: Ledger) -> Iterator[str]:
    """Every cause with its state and result, oldest first, and what else fails, as lines for people."""
    failures = ledger.failures()
    for cause, state, result, made in ledger.causes():
        failure = failures.pop(cause.name, None)
        outcome = _failure_line(failure) if failure else result
        yield f"{_time(made)} {state:<6} {cause.name} {cause.rule}: {cause.what}{f': {outcome}' if outcome else ''}"
    for what, failure in failures.items():
        yield f"failing: {what}: {_failure_line(failure)}"


def _failure_line(failure: EventFailure) -> str:
    return f"{' '.join(failure.why.split())}; next attempt at {_time(failure.again)}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
