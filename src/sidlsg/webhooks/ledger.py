"""What the service must not forget: the deliveries that it took, their events, and each cause with what came of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

CREATED, ALIAS, TAG = "model_version.created", "model_version_alias.created", "model_version_tag.set"
KINDS = (CREATED, ALIAS, TAG)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change of a model version; what the version is, the registry says."""

    kind: str
    model: str
    version: str
    alias: str = ""
    tag: str = ""
    """The key of the tag that was set."""

    def to_json(self) -> str:
        """As text, for the disk."""
        return json.dumps(asdict(self), sort_keys=True)


def parse_event(body: bytes) -> Event | None:
    """Read the body of a delivery.

    Returns:
        The event, or None for one of a kind that no rule can name.

    Raises:
        InputError: it is not what MLflow sends.
    """
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
    # MLflow's database has no room for such characters, and no name of a thing is so long.
    if not isinstance(value, str) or len(value) > 1000 or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{key!r} of the delivery is not a short text")
    return value


FILE = "ledger.db"
"""In the service's folder."""
WANTED, DONE, OLD = "wanted", "done", "old"
"""States of a cause; an old one was there before the service first looked, and is left alone."""
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
    """Something that is to be done once; its name comes from its cause, so the same cause has the same name."""

    name: str
    rule: str
    """The rule's name."""
    what: str
    """The event, for people."""
    action: Mapping[str, Any]
    """`{"run": …}`, `{"copy": …}` or `{"serve": …}`, with all that it needs."""


@dataclass(frozen=True, kw_only=True)
class EventFailure:
    """Why something failed when it was last tried, and when it will be tried again."""

    why: str
    again: float
    """In seconds since 1970."""


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
                database.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path} cannot be used as the service's database: {error}; give another file") from error

    def take(self, delivery_id: str, event: Event | None, now: float) -> bool:
        """Store a delivery and its event, both or neither. Returns whether it is new."""
        with closing(self._open()) as database, database:
            database.execute("begin immediate")
            new = database.execute("insert or ignore into deliveries values (?, ?)", (delivery_id, now)).rowcount == 1
            if new and event is not None:
                database.execute("insert into events (event) values (?)", (event.to_json(),))
            return new

    def events(self) -> dict[Event, list[int]]:
        """The events whose causes are not known yet, oldest first, with the numbers of all deliveries of each."""
        with closing(self._open()) as database:
            rows = database.execute("select number, event from events order by number").fetchall()
        found: dict[Event, list[int]] = {}
        for number, text in rows:
            found.setdefault(Event(**parse_json(text)), []).append(number)
        return found

    def add(self, causes: Iterable[Cause], now: float, state: str = WANTED, events: Iterable[int] = ()) -> list[Cause]:
        """Store causes that are not known, and forget the events that they came of, both or neither.

        Returns:
            Those that were not known.
        """
        with closing(self._open()) as database, database:
            database.execute("begin immediate")
            new = [cause for cause in causes if _insert(database, cause, now, state)]
            database.executemany("delete from events where number = ?", [(number,) for number in events])
            return new

    def wanted(self) -> list[Cause]:
        """The causes that nothing came of yet, oldest first: also those that a killed process left."""
        return [cause for cause, state, _, _ in self.causes() if state == WANTED]

    def causes(self) -> list[tuple[Cause, str, str, float]]:
        """Every cause with its state, its result and when it was made, oldest first."""
        with closing(self._open()) as database:
            rows = database.execute(
                "select name, rule, what, action, state, result, made from causes order by made, name"
            ).fetchall()
        return [
            (Cause(name=name, rule=rule, what=what, action=parse_json(action)), state, result, made)
            for name, rule, what, action, state, result, made in rows
        ]

    def failed(self, what: str, why: str, again: float) -> None:
        """Note why something failed, such as a cause by its name, and when it will be tried again."""
        with closing(self._open()) as database, database:
            database.execute("insert or replace into failures values (?, ?, ?)", (what, why, again))

    def worked(self, what: str) -> None:
        """Forget a failure."""
        with closing(self._open()) as database, database:
            database.execute("delete from failures where what = ?", (what,))

    def failures(self) -> dict[str, EventFailure]:
        """What failed when it was last tried."""
        with closing(self._open()) as database:
            rows = database.execute("select what, why, again from failures order by what").fetchall()
        return {what: EventFailure(why=why, again=again) for what, why, again in rows}

    def forget_failures(self) -> None:
        """Forget all failures, as a service that starts does, which tries all of them again."""
        with closing(self._open()) as database, database:
            database.execute("delete from failures")

    def done(self, name: str, result: str) -> None:
        """Store what came of a cause; a later result does not replace it."""
        with closing(self._open()) as database, database:
            database.execute(
                "update causes set state = ?, result = ? where name = ? and state = ?", (DONE, result, name, WANTED)
            )

    def fact(self, name: str) -> str:
        """Something that was noted; empty where it was not."""
        with closing(self._open()) as database:
            row = database.execute("select value from facts where name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def note(self, name: str, value: str) -> None:
        """Note something."""
        with closing(self._open()) as database, database:
            database.execute("insert or replace into facts values (?, ?)", (name, value))

    def prune(self, before: float) -> int:
        """Forget deliveries that came before a time; causes stay. Returns how many."""
        with closing(self._open()) as database, database:
            return database.execute("delete from deliveries where seen < ?", (before,)).rowcount

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=10.0)
        # WAL's default leaves the last transactions to the operating system: a power cut would lose an answered one.
        database.execute("pragma synchronous = full")
        return database


def _insert(database: sqlite3.Connection, cause: Cause, now: float, state: str) -> bool:
    values = (cause.name, cause.rule, cause.what, json.dumps(dict(cause.action), sort_keys=True), now, state)
    added = database.execute(
        "insert or ignore into causes (name, rule, what, action, made, state) values (?, ?, ?, ?, ?, ?)", values
    )
    return added.rowcount == 1
