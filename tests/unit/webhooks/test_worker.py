"""The worker on a real MLflow store: what is old, what is new, what is missing, and what must not stop the rest."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest
from mlflow import MlflowClient

from sidlsg.kubeflow.server.runs import RunState
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import StorageError
from sidlsg.webhooks import worker as module
from sidlsg.webhooks.ledger import ALIAS, CREATED, Event, Ledger, lines
from sidlsg.webhooks.rules import Table
from sidlsg.webhooks.telemetry import WebhookMetrics
from sidlsg.webhooks.worker import Worker

RULE = {"name": "new", "event": CREATED, "model": "m-*", "run": {"pipeline": "p", "parameters": {"v": "{version}"}}}


class Runs:
    """A server in this process; it refuses the parameters that the test names."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.refused: set[str] = set()

    def start(self, name: str, pipeline: str, version: str, parameters: dict[str, Any]) -> RunState:
        assert (pipeline, version) == ("p", "")
        if str(parameters.get("v")) in self.refused:
            raise StorageError("the server does not answer")
        if name not in dict(self.made):
            self.made.append((name, parameters))
        return RunState(run_id=f"r-{name}", name=name, state="PENDING")

    def ready(self) -> None: ...

    @property
    def parameters(self) -> list[dict[str, Any]]:
        return [parameters for _, parameters in self.made]


@pytest.fixture
def uri(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def client(uri: str, tmp_path) -> MlflowClient:
    client = connect(uri, create=True)
    client.create_experiment("e", artifact_location=f"file://{tmp_path}/artifacts")
    client.create_registered_model("m-1")
    return client


def version(client: MlflowClient, **tags: str) -> str:
    run = client.create_run(client.get_experiment_by_name("e").experiment_id).info
    return str(client.create_model_version("m-1", f"{run.artifact_uri}/model", run.run_id, tags=tags).version)


@pytest.fixture
def make(uri: str, tmp_path, monkeypatch):
    runs = Runs()

    def make(*rules: dict[str, Any], **more: Any) -> tuple[Worker, Runs, Ledger]:
        ledger = Ledger(tmp_path / "ledger.db")
        table = Table.model_validate({"on": list(rules), **more})
        worker = Worker(table, ledger, runs, uri, WebhookMetrics(), poll_s=0.0)
        # One step at a time, by the test.
        monkeypatch.setattr(worker._thread, "start", lambda: None)
        worker.begin()
        return worker, runs, ledger

    return make


def test_what_was_there_is_old_and_what_comes_is_found(client, make):
    version(client)
    worker, runs, ledger = make(RULE)
    worker.step()
    assert runs.made == []
    new = version(client)
    worker.step()
    worker.step()
    assert runs.parameters == [{"v": new}]
    ledger.take("d1", Event(kind=CREATED, model="m-1", version=new), 1.0)
    worker.step()
    assert ledger.events() == {}
    assert len(runs.made) == 1


def test_what_a_new_rule_finds_is_old_too(client, make):
    make(RULE)
    missed = version(client)
    worker, runs, _ = make(RULE, {**RULE, "name": "another"})
    worker.step()
    # For the rule that was there it is news, for the other one it is not.
    assert runs.parameters == [{"v": missed}]


@pytest.mark.usefixtures("client")
def test_a_watched_place_that_cannot_be_read_yet_stops_nothing(make, monkeypatch):
    asked = []

    def prompt_set_at(place: str) -> str:
        asked.append(place)
        raise StorageError("there is no bucket yet")

    monkeypatch.setattr(module, "prompt_set_at", prompt_set_at)
    watch = {"name": "prompts", "place": "s3://later/prompts", "run": {"pipeline": "p"}}
    worker, runs, _ = make(RULE, watch=[watch])
    worker.step()
    assert (len(asked), runs.made) == (2, [])


def test_a_version_without_the_tag_does_not_stop_the_others(client, make):
    run = {"pipeline": "p", "parameters": {"v": "{tag.place}"}}
    worker, runs, _ = make({**RULE, "tags": {"place": "*"}, "run": run})
    version(client)
    version(client, place="there")
    worker.step()
    assert runs.parameters == [{"v": "there"}]


def test_an_event_waits_for_a_registry_that_is_away(client, make, monkeypatch):
    worker, runs, ledger = make(RULE)
    new = version(client)
    ledger.take("d1", Event(kind=CREATED, model="m-1", version=new), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_uri", "http://127.0.0.1:9")
        worker.step()
    assert len(ledger.events()) == 1
    worker._pauses.clear()
    worker.step()
    assert ledger.events() == {}
    assert runs.parameters == [{"v": new}]


@pytest.mark.usefixtures("client")
def test_an_event_of_a_version_that_is_gone_is_forgotten(make):
    worker, runs, ledger = make(RULE)
    ledger.take("d1", Event(kind=CREATED, model="m-1", version="99"), 1.0)
    worker.step()
    assert (ledger.events(), runs.made) == ({}, [])


def test_what_is_refused_holds_nothing_up_and_is_tried_again_later(client, make, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    worker, runs, ledger = make(RULE)
    first, second = version(client), version(client)
    runs.refused = {first}
    worker.step()
    assert runs.parameters == [{"v": second}]
    asked: list[str] = []
    start = runs.start
    monkeypatch.setattr(runs, "start", lambda name, *given: asked.append(name) or start(name, *given))
    tries = []
    # After one second, and then after two more.
    for clock[0] in (100.5, 101.1, 102.0, 103.2):
        worker.step()
        tries.append(len(asked))
    assert tries == [0, 1, 1, 2]
    assert [failure.why for failure in ledger.failures().values()] == ["the server does not answer"]
    runs.refused = set()
    clock[0] = 200.0
    worker.step()
    assert runs.parameters == [{"v": second}, {"v": first}]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("odd"), StorageError("away")])
def test_a_cause_that_fails_in_any_way_fails_alone_and_is_seen_to(client, make, monkeypatch, error):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    worker, runs, ledger = make(RULE)
    first, second = version(client), version(client)
    start, asked = runs.start, []

    def failing(name, pipeline, wanted, parameters):
        if parameters["v"] == first:
            asked.append(name)
            raise error
        return start(name, pipeline, wanted, parameters)

    monkeypatch.setattr(runs, "start", failing)
    worker.step()
    worker.step()
    assert runs.parameters == [{"v": second}]
    assert len(asked) == 1  # it backs off
    (why,) = worker.failing().values()
    assert str(error) in why
    assert worker._metrics.registry.get_sample_value("sidlsg_triggers_failing") == 1
    (failing,) = ledger.wanted()
    (line,) = [line for line in lines(ledger) if failing.name in line]
    reason, _, again = line.rpartition("; next attempt at ")
    assert reason.endswith(f": {why}")
    assert -60 < datetime.fromisoformat(again).timestamp() - time.time() < 10
    monkeypatch.setattr(runs, "start", start)
    clock[0] += 60
    worker.step()
    assert worker.failing() == ledger.failures() == {}
    assert worker._metrics.registry.get_sample_value("sidlsg_triggers_failing") == 0


def test_a_server_that_is_away_is_asked_once_a_round_and_what_waited_for_it_is_due_when_it_answers(
    client, make, monkeypatch
):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    worker, runs, ledger = make(RULE)
    numbers = [version(client) for _ in range(5)]
    for number in numbers:
        for delivery in ("first", "second"):
            ledger.take(f"{delivery}-{number}", Event(kind=CREATED, model="m-1", version=number), 1.0)
    asked: list[str] = []

    def away(uri: str) -> MlflowClient:
        asked.append(uri)
        raise StorageError("it hangs")

    with monkeypatch.context() as patch:
        patch.setattr(module, "connect", away)
        for clock[0] in range(100, 200):
            worker.step()
    # After 1, 2, 4, 8 seconds, and then every 15.
    assert 8 <= len(asked) <= 12
    assert worker.failing() == {"reach MLflow": "it hangs"}
    assert list(lines(ledger))[-1].startswith("failing: reach MLflow: it hangs; next attempt at ")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "start", lambda name, *_: away(name))
        patch.setattr(runs, "ready", lambda: away("ready"), raising=False)
        clock[0] += 20
        asked.clear()
        worker.step()
        assert ledger.events() == {}
        assert len(asked) == 2
    clock[0] += 2
    worker.step()
    assert sorted(runs.parameters, key=str) == [{"v": number} for number in numbers]
    assert worker.failing() == ledger.failures() == {}


@pytest.mark.usefixtures("client")
def test_what_failed_before_a_restart_is_not_shown_after_it(make):
    ledger = make(RULE)[2]
    ledger.failed("reach MLflow", "it hung", 1.0)
    make(RULE)
    assert ledger.failures() == {}


def test_no_entry_of_the_registry_stops_the_causes_of_other_models(client, make):
    """Names that a filter would trip over, and tags that look like an audit trail's."""
    worker, runs, _ = make({**RULE, "event": ALIAS, "alias": "champion"})
    for name in ("it's", 'it\'s "so"', "m-2"):
        client.create_registered_model(name)
        client.create_model_version(name, "file:///nowhere")
    for tag in ("change.x", "change.1", "change.1.0.0", "change.99999999999999999999.0"):
        client.set_model_version_tag("m-2", "1", tag, "champion of hearts")
    client.set_registered_model_alias("m-2", "champion", "1")
    client.set_registered_model_alias("m-1", "champion", version(client))
    worker.step()
    assert worker.failing() == {}
    assert runs.parameters == [{"v": "1"}, {"v": "1"}]


def test_a_prompt_set_that_changes_is_a_cause(client, make, tmp_path):
    def write(count: int) -> None:
        record = {"source_sha256": "a", "rules_sha256": "b", "held_out_sha256": "c", "count": count}
        (tmp_path / "prompts").mkdir(exist_ok=True)
        (tmp_path / "prompts" / "prompt_set.json").write_text(json.dumps({**record, "shards": [], "funnel": []}))

    write(1)
    run = {"pipeline": "p", "parameters": {"prompts": "{place}"}}
    watch = {"name": "prompts", "place": str(tmp_path / "prompts"), "run": run}
    worker, runs, _ = make(RULE, watch=[watch, {**watch, "name": "none", "place": str(tmp_path / "none")}])
    worker.step()
    assert runs.made == []
    write(2)
    worker.step()
    worker.step()
    assert runs.parameters == [{"prompts": str(tmp_path / "prompts")}]
    (tmp_path / "prompts" / "prompt_set.json").write_text("broken")
    new = version(client)
    worker.step()
    assert runs.parameters[1:] == [{"v": new}]


def test_an_alias_that_is_not_there_is_no_cause(client, make):
    rule = {"name": "c", "event": ALIAS, "alias": "candidate", "run": RULE["run"]}
    worker, runs, ledger = make(rule)
    first, second = version(client), version(client)
    client.set_registered_model_alias("m-1", "candidate", second)
    for delivery, number in enumerate((first, second)):
        ledger.take(str(delivery), Event(kind=ALIAS, model="m-1", version=number, alias="candidate"), 1.0)
    worker.step()
    assert runs.parameters == [{"v": second}]
