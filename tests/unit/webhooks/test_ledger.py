"""The service's database, and the events in deliveries."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.webhooks.ledger import OLD, Cause, Event, EventFailure, Ledger, parse_event

EVENT = Event(kind="model_version.created", model="m", version="1")
CAUSE = Cause(name="cause-1", rule="r", what="w", action={"run": {"pipeline": "p", "parameters": {"teacher": "t"}}})


def test_a_delivery_counts_once_also_after_a_restart(tmp_path):
    path = tmp_path / "new" / "ledger.db"
    assert Ledger(path).take("d1", EVENT, 1.0)
    assert not Ledger(path).take("d1", EVENT, 2.0)
    assert list(Ledger(path).events()) == [EVENT]


def test_an_event_becomes_causes_and_is_gone(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.take("d1", EVENT, 1.0)
    ledger.take("d2", EVENT, 1.0)
    first, second = ledger.events()[EVENT]
    assert ledger.add([CAUSE], 1.0, events=[first]) == [CAUSE]
    assert ledger.events() == {EVENT: [second]}
    assert ledger.add([CAUSE], 2.0, events=[second]) == []
    assert ledger.events() == {}
    assert Ledger(tmp_path / "ledger.db").wanted() == [CAUSE]


def test_what_was_done_is_wanted_no_more_and_survives_pruning(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.take("d1", EVENT, 1.0)
    ledger.add([CAUSE], 1.0)
    ledger.done(CAUSE.name, "run-1")
    ledger.done(CAUSE.name, "run-2")
    assert ledger.wanted() == []
    assert ledger.prune(before=5.0) == 1
    assert ledger.take("d1", EVENT, 6.0)
    assert ledger.add([CAUSE], 6.0) == []
    assert [(state, result) for _, state, result, _ in ledger.causes()] == [("done", "run-1")]


def test_what_is_old_is_left_alone(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.add([CAUSE], 1.0, OLD)
    assert ledger.add([CAUSE], 2.0) == []
    assert ledger.wanted() == []


def test_a_failure_is_known_until_it_works_or_the_service_starts_anew(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    for again in (5.0, 7.0):
        ledger.failed(CAUSE.name, "the server is away", again)
    ledger.failed("look", "it, too", 9.0)
    assert ledger.failures()[CAUSE.name] == EventFailure(why="the server is away", again=7.0)
    ledger.worked(CAUSE.name)
    assert list(ledger.failures()) == ["look"]
    ledger.forget_failures()
    assert ledger.failures() == {}


def test_a_database_of_an_earlier_version_is_used_on(tmp_path):
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "create table causes (name text primary key, rule text not null, what text not null, action text not null, "
            "made real not null, state text not null, result text not null default '', "
            "tries integer not null default 0) without rowid"
        )
    assert Ledger(path).add([CAUSE], 1.0) == Ledger(path).wanted() == [CAUSE]


def test_facts_are_noted(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.fact("looked") == ""
    ledger.note("looked", "1")
    ledger.note("looked", "2")
    assert Ledger(tmp_path / "ledger.db").fact("looked") == "2"


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_text("no database at all" * 100)
    with pytest.raises(InputError, match=r"ledger\.db cannot be used"):
        Ledger(path)


def body(entity, action, **data):
    return json.dumps({"entity": entity, "action": action, "timestamp": "t", "data": data}).encode()


def test_the_three_kinds_as_mlflow_sends_them():
    new = body("model_version", "created", name="m", version="1", source="s", run_id=None, tags={"a": "b"})
    assert parse_event(new) == Event(kind="model_version.created", model="m", version="1")
    alias = body("model_version_alias", "created", name="m", alias="champion", version="1")
    assert parse_event(alias) == Event(kind="model_version_alias.created", model="m", version="1", alias="champion")
    tag = body("model_version_tag", "set", name="m", version="1", key="k", value="v")
    assert parse_event(tag) == Event(kind="model_version_tag.set", model="m", version="1", tag="k")


def test_another_kind_is_none():
    assert parse_event(body("registered_model", "created", name="m")) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b"[]",
        b'{"data": 3}',
        body("model_version", "created", name="m", version=1),
        body("model_version", "created", name="m\0", version="1"),
        body("model_version", "created", name="m\ud800", version="1"),
        body("model_version", "created", name="m" * 2000, version="1"),
        body("model_version_tag", "set", name="m", version="1", key=["k"], value="v"),
    ],
)
def test_garbage_is_refused(wrong):
    with pytest.raises(InputError):
        parse_event(wrong)
