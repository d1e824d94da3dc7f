"""An approval is recorded once, and the gate judges again; nothing else is waved through."""

from __future__ import annotations

import re
import sys

import pytest

from sidlsg.cli import app as cli
from sidlsg.registry.connection import connect
from sidlsg.registry.gate_rules import Approval, Floor, GateRules
from sidlsg.registry.promotion import promote
from sidlsg.registry.registration import register
from sidlsg.registry.verdicts import judged_by
from sidlsg.runtime.errors import InputError, VerdictError
from sidlsg.stages.gate import approve, gate
from sidlsg.storage.records import ModelVersion

FLOOR = Floor(subject="student 1 step", score="accuracy", limit=0.8)
ANN_OR_BEN = Approval(people=("ann", "ben"))
LEGAL = Approval(tag="approved_by.legal")


@pytest.fixture
def name(request) -> str:
    return re.sub(r"[^\w.-]", "-", request.node.name)


@pytest.fixture
def judged(tracking_uri, name, make_student, make_scorecard):
    """Makes a version that the gate of the run `run-7` judged by a floor and these approvals."""

    def make(*approvals: Approval, accuracy: float = 0.9, seed: int = 0) -> ModelVersion:
        version = register(make_student(seed), tracking_uri, name)
        card = make_scorecard(version.student_sha256, accuracy=accuracy)
        gate(version, card, tracking_uri, GateRules(floors=(FLOOR,), approvals=approvals), run="run-7")
        return version

    return make


def tags(tracking_uri: str, name: str, number: int = 1) -> dict[str, str]:
    return dict(connect(tracking_uri).get_model_version(name, str(number)).tags)


def outcome(tracking_uri: str, name: str) -> str:
    (found,) = [each for each in judged_by("run-7", tracking_uri) if each.name == name]
    return found.outcome


def test_an_approved_version_passes_and_is_promoted_once(judged, tracking_uri, name):
    judged(ANN_OR_BEN)
    assert outcome(tracking_uri, name) == "awaiting"
    verdict = approve(tracking_uri, name, "1", "ben")
    assert verdict.passed
    assert tags(tracking_uri, name)["approved_by"] == "ben"
    assert "awaits_approval" not in tags(tracking_uri, name)
    # The run that is waited for keeps its verdict.
    assert outcome(tracking_uri, name) == "passed"
    assert promote(verdict, tracking_uri).changed

    before = tags(tracking_uri, name)
    again = approve(tracking_uri, name, "1", "ann")
    assert again.passed
    assert not promote(again, tracking_uri).changed
    assert tags(tracking_uri, name) == before


def test_a_call_that_was_killed_while_it_recorded_the_verdict_is_continued(judged, tracking_uri, name, monkeypatch):
    judged(ANN_OR_BEN)
    with monkeypatch.context() as patch:
        patch.setattr("sidlsg.registry.gate.set_tags", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(tracking_uri, name, "1", "ann")
    assert outcome(tracking_uri, name) == "awaiting"
    assert promote(approve(tracking_uri, name, "1", "ann"), tracking_uri).changed
    assert outcome(tracking_uri, name) == "passed"


def test_one_person_gives_one_approval(judged, tracking_uri, name, monkeypatch):
    judged(ANN_OR_BEN, LEGAL)
    with monkeypatch.context() as patch:
        patch.setattr("sidlsg.registry.approval.gate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(tracking_uri, name, "1", "ann")
    # Ann's one approval is not taken for the other one too.
    assert not approve(tracking_uri, name, "1", "ann").passed
    assert "approved_by.legal" not in tags(tracking_uri, name)
    assert outcome(tracking_uri, name) == "awaiting"
    assert approve(tracking_uri, name, "1", "eve").passed
    assert tags(tracking_uri, name)["approved_by.legal"] == "eve"


@pytest.mark.parametrize("who", ["eve", " "])
def test_only_those_who_are_named_can_approve(judged, tracking_uri, name, who):
    judged(ANN_OR_BEN)
    with pytest.raises(InputError, match="the gate's rules take: ann, ben" if who == "eve" else "give a person's name"):
        approve(tracking_uri, name, "1", who)
    assert "approved_by" not in tags(tracking_uri, name)


def test_a_poor_version_cannot_be_approved(judged, tracking_uri, name):
    judged(ANN_OR_BEN, accuracy=0.5)
    assert outcome(tracking_uri, name) == "rejected"
    with pytest.raises(VerdictError, match=r"lacks more than an approval: accuracy .* 0\.8"):
        approve(tracking_uri, name, "1", "ann")
    assert "approved_by" not in tags(tracking_uri, name)


def test_another_champion_since_means_another_judgement(judged, tracking_uri, name):
    judged(ANN_OR_BEN)
    judged(ANN_OR_BEN, seed=1)
    first = approve(tracking_uri, name, "1", "ann")
    promote(approve(tracking_uri, name, "2", "ann"), tracking_uri)
    with pytest.raises(InputError, match="run the gate again"):
        promote(first, tracking_uri)
    again = approve(tracking_uri, name, "1", "ann")
    assert again.champion_version == 2
    assert promote(again, tracking_uri).changed


def test_the_command_writes_what_promote_takes(judged, tracking_uri, name, tmp_path, monkeypatch, capsys):
    judged(ANN_OR_BEN)

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["sidlsg", *words, "--tracking-uri", tracking_uri])
        cli.main()

    with pytest.raises(SystemExit) as refused:
        run("approve", name, "1", "--by", "eve")
    assert refused.value.code == 2
    run("approve", name, "1", "--by", "ann", "--output", str(tmp_path / "verdict"))
    run("promote", "--verdict", str(tmp_path / "verdict"))
    assert "passed" in capsys.readouterr().out
    aliases = connect(tracking_uri).get_registered_model(name).aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"champion": 1}
