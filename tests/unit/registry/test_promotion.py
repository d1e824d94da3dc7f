"""Promotion: two aliases move together, or not at all."""

from __future__ import annotations

import contextlib

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from services.verdicts import leave, verdict
from sidlsg.registry.connection import connect
from sidlsg.registry.doctor import examine
from sidlsg.registry.locks import Lock
from sidlsg.registry.promotion import promote as stage
from sidlsg.registry.promotion import rollback
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Promotion, Verdict


def promote(verdict: Verdict, tracking_uri: str) -> Promotion:
    """The stage, after the gate has left a verdict that passed on the version."""
    if verdict.passed:
        with contextlib.suppress(MlflowException):  # there may be no such version
            leave(verdict, connect(tracking_uri))
    return stage(verdict, tracking_uri)


@pytest.fixture
def name(tracking_uri, request) -> str:
    """A model with three versions; promotion reads nothing of their files."""
    name = f"promoted-{request.node.name}"
    client = connect(tracking_uri, create=True)
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source="file:///nowhere")
    return name


def aliases(tracking_uri: str, name: str) -> dict[str, int]:
    found = connect(tracking_uri).get_registered_model(name).aliases
    return {alias: int(version) for alias, version in found.items()}


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_promotion_that_slept_does_not_undo_one_that_happened_meanwhile(tracking_uri, name, monkeypatch, moment):
    """It wakes up just before or after one of its writes, and its claim still seems to hold: the machine paused."""
    promote(verdict(name, 1, None), tracking_uri)
    leave(verdict(name, 2, 1), connect(tracking_uri))
    client, checks = connect(tracking_uri), []

    def asleep(_):
        checks.append(1)
        if len(checks) == moment:
            client.set_registered_model_alias(name, "champion", "3")

    monkeypatch.setattr(Lock, "check", asleep)
    with pytest.raises(InputError, match="became version 3 meanwhile"):
        stage(verdict(name, 2, 1), tracking_uri)
    assert aliases(tracking_uri, name)["champion"] == 3


def test_a_change_that_was_killed_before_it_was_counted_keeps_its_number(tracking_uri, name, monkeypatch):
    promote(verdict(name, 1, None), tracking_uri)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_tag", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promote(verdict(name, 2, 1), tracking_uri)
    (finding,) = examine(tracking_uri, name)
    assert finding.what == "the last change of aliases is not counted"
    promote(verdict(name, 3, 2), tracking_uri)
    client = connect(tracking_uri)
    assert client.get_model_version(name, "3").tags["change.3.0"].startswith("champion instead of 2")
    assert client.get_registered_model(name).tags["changes"] == "3"
    assert examine(tracking_uri, name) == []


def test_aliases_move_and_previous_is_kept(tracking_uri, name):
    first = promote(verdict(name, 1, None), tracking_uri)
    assert first == Promotion(name=name, champion_version=1, previous_version=None, changed=True)
    assert aliases(tracking_uri, name) == {"champion": 1}

    second = promote(verdict(name, 2, 1), tracking_uri)
    assert second == Promotion(name=name, champion_version=2, previous_version=1, changed=True)
    assert aliases(tracking_uri, name) == {"champion": 2, "previous": 1}

    again = promote(verdict(name, 2, 1), tracking_uri)
    assert again == Promotion(name=name, champion_version=2, previous_version=1, changed=False)
    assert aliases(tracking_uri, name) == {"champion": 2, "previous": 1}

    tags = connect(tracking_uri).get_model_version(name, "2").tags
    assert tags["promoted_by_verdict_sha256"] == verdict(name, 2, 1).digest
    assert "promoted_at" in tags


def test_a_failed_verdict_moves_nothing(tracking_uri, name):
    promote(verdict(name, 1, None), tracking_uri)
    outcome = promote(verdict(name, 2, 1, passed=False), tracking_uri)
    assert outcome == Promotion(name=name, champion_version=1, previous_version=None, changed=False)
    assert aliases(tracking_uri, name) == {"champion": 1}
    assert connect(tracking_uri).get_model_version(name, "2").tags == {}


def test_a_verdict_against_an_earlier_champion_is_refused(tracking_uri, name):
    promote(verdict(name, 1, None), tracking_uri)
    promote(verdict(name, 2, 1), tracking_uri)
    with pytest.raises(InputError, match="compared with champion version 1, but the champion is version 2 now"):
        promote(verdict(name, 3, 1), tracking_uri)
    assert aliases(tracking_uri, name) == {"champion": 2, "previous": 1}


def test_a_promotion_killed_half_way_is_repeated(tracking_uri, name, monkeypatch):
    promote(verdict(name, 1, None), tracking_uri)
    original = MlflowClient.set_registered_model_alias

    def killed(self, model, alias, version):
        if alias == "champion":
            raise KeyboardInterrupt
        original(self, model, alias, version)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(verdict(name, 2, 1), tracking_uri)
    assert aliases(tracking_uri, name)["champion"] == 1  # the champion's alias is the last to move

    assert promote(verdict(name, 2, 1), tracking_uri).changed
    assert aliases(tracking_uri, name) == {"champion": 2, "previous": 1}


def test_a_version_that_is_not_there_is_refused(tracking_uri, name):
    with pytest.raises(InputError, match="no version 9"):
        promote(verdict(name, 9, None), tracking_uri)


def killed_at(alias: str):
    """MLflow's client as it is where the program dies before that alias moves."""
    original = MlflowClient.set_registered_model_alias

    def set_alias(self, model, given, version):
        if given == alias:
            raise KeyboardInterrupt
        original(self, model, given, version)

    return set_alias


def test_a_rollback_changes_the_two_and_can_be_taken_back(tracking_uri, name):
    promote(verdict(name, 1, None), tracking_uri)
    promote(verdict(name, 2, 1), tracking_uri)
    back = rollback(tracking_uri, name, "blurred hands")
    assert back == Promotion(name=name, champion_version=1, previous_version=2, changed=True)
    assert aliases(tracking_uri, name) == {"champion": 1, "previous": 2}
    assert rollback(tracking_uri, name, "the hands were fine").champion_version == 2
    assert aliases(tracking_uri, name) == {"champion": 2, "previous": 1}


def test_a_rollback_to_a_version_that_was_rejected_since_warns(tracking_uri, name, capsys):
    promote(verdict(name, 1, None), tracking_uri)
    promote(verdict(name, 2, 1), tracking_uri)
    connect(tracking_uri).set_model_version_tag(name, "1", "verdict", "rejected")
    assert rollback(tracking_uri, name, "an emergency").champion_version == 1
    assert f"note: version 1 of {name}, which becomes the champion, was rejected" in capsys.readouterr().err
    rollback(tracking_uri, name, "back")
    assert "rejected" not in capsys.readouterr().err


def test_every_change_is_on_the_versions(tracking_uri, name):
    promote(verdict(name, 1, None), tracking_uri)
    promote(verdict(name, 2, 1), tracking_uri)
    rollback(tracking_uri, name, "blurred hands")
    client = connect(tracking_uri)
    first, second = (client.get_model_version(name, str(number)).tags for number in (1, 2))
    assert first["change.1.0"].startswith("champion instead of none, ")
    assert first["change.2.0"].startswith("replaced by version 2, ")
    assert second["change.2.0"].startswith("champion instead of 1, ")
    assert second["change.2.0"].endswith(f"verdict {verdict(name, 2, 1).digest}")
    assert first["change.3.0"].startswith("champion instead of 2, ")
    assert second["change.3.0"].startswith("replaced by version 1, ")
    for said in (first["change.3.0"], second["change.3.0"]):
        assert "@" in said
        assert said.endswith("rollback: blurred hands")


@pytest.mark.parametrize("alias", ["previous", "champion"])
def test_a_rollback_killed_half_way_is_repeated(tracking_uri, name, alias, monkeypatch):
    promote(verdict(name, 1, None), tracking_uri)
    promote(verdict(name, 2, 1), tracking_uri)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", killed_at(alias))
        with pytest.raises(KeyboardInterrupt):
            rollback(tracking_uri, name, "blurred hands")
    assert aliases(tracking_uri, name)["champion"] == 2
    assert rollback(tracking_uri, name, "blurred hands").champion_version == 1
    assert aliases(tracking_uri, name) == {"champion": 1, "previous": 2}


def test_the_error_says_why_a_rollback_is_impossible(tracking_uri, name):
    with pytest.raises(InputError, match="no champion before"):
        rollback(tracking_uri, name, "a reason")
    promote(verdict(name, 1, None), tracking_uri)
    with pytest.raises(InputError, match="no champion before"):
        rollback(tracking_uri, name, "a reason")
    with pytest.raises(InputError, match="say why"):
        rollback(tracking_uri, name, " ")
    with pytest.raises(InputError, match="no model 'nobody'"):
        rollback(tracking_uri, "nobody", "a reason")
    assert aliases(tracking_uri, name) == {"champion": 1}


def test_a_rejected_version_is_no_rollbacks_aim(tracking_uri, name):
    """A promotion that was killed before anything moved leaves a plan, which is not taken for a rollback's."""
    promote(verdict(name, 1, None), tracking_uri)
    promote(verdict(name, 2, 1), tracking_uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", killed_at("previous"))
        with pytest.raises(KeyboardInterrupt):
            promote(verdict(name, 3, 2), tracking_uri)
    assert rollback(tracking_uri, name, "a reason").champion_version == 1


def test_a_verdict_that_the_gate_did_not_leave_there_is_refused(tracking_uri, name):
    promote(verdict(name, 1, None), tracking_uri)
    client = connect(tracking_uri)
    with pytest.raises(InputError, match=r"is not the one that version 2 .* has \(none, not judged\)"):
        stage(verdict(name, 2, 1), tracking_uri)
    rejected = verdict(name, 2, 1, passed=False)
    leave(rejected, client)
    # Somebody edits the file.
    with pytest.raises(InputError, match="rejected"):
        stage(verdict(name, 2, 1), tracking_uri)
    assert aliases(tracking_uri, name) == {"champion": 1}


@pytest.mark.parametrize("again", ["promote", "rollback", "doctor"])
def test_a_change_that_was_stopped_after_the_alias_moved_gets_its_record(tracking_uri, name, monkeypatch, again):
    promote(verdict(name, 1, None), tracking_uri)
    original = MlflowClient.set_model_version_tag

    def killed_at_the_end(self, model, version, key, value):
        if value.startswith("champion instead of 1"):
            raise KeyboardInterrupt
        original(self, model, version, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_model_version_tag", killed_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            promote(verdict(name, 2, 1), tracking_uri)
    client = connect(tracking_uri)
    assert client.get_model_version(name, "2").tags["change.2.0"].startswith("to be champion")
    assert aliases(tracking_uri, name) == {"champion": 2, "previous": 1}
    if again == "promote":
        assert not promote(verdict(name, 2, 1), tracking_uri).changed
    elif again == "rollback":
        assert rollback(tracking_uri, name, "a reason").champion_version == 1
    else:
        (finding,) = examine(tracking_uri, name)
        assert "stopped after the champion's moved" in finding.what
        finding.mend()
        assert examine(tracking_uri, name) == []
    assert client.get_model_version(name, "2").tags["change.2.0"].startswith("champion instead of 1")
    changes = client.get_registered_model(name).tags["changes"]
    assert changes == ("3" if again == "rollback" else "2")
