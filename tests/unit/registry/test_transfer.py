"""From one registry to another: what passed, as it was, once, and judged again where it comes to."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from sidlsg.cli import app as cli
from sidlsg.registry import transfer as module
from sidlsg.registry.connection import connect
from sidlsg.registry.doctor import examine
from sidlsg.registry.gate_rule_file import gate_rules_text
from sidlsg.registry.gate_rules import Approval, Floor, GateRules, NoRegression
from sidlsg.registry.promotion import promote
from sidlsg.registry.registration import Circumstances, register
from sidlsg.runtime.errors import InputError, VerdictError
from sidlsg.stages.gate import gate, transfer
from sidlsg.storage.records import ModelVersion, Promotion
from sidlsg.storage.uri import PIN

STUDENT = "student 1 step"
FLOOR = Floor(subject=STUDENT, score="accuracy", limit=0.8)
RULES = GateRules(floors=(FLOOR,), no_regression=(NoRegression(subject=STUDENT, score="fid", tolerance=0.5),))
INPUTS = {"judge": f"bundled:judge.safetensors{PIN}{'a' * 64}"}
STEPS = ("fetch_student", "register", "_record_source", "gate", "promote")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The registry where versions go; each test uses its own model name."""
    return f"sqlite:///{tmp_path_factory.mktemp('production')}/mlflow.db"


@pytest.fixture
def name(request) -> str:
    return re.sub(r"[^\w.-]", "-", request.node.name)


@pytest.fixture
def passed(tracking_uri, name, make_student, make_scorecard):
    """Makes a version that passed where it is, of a student of that seed."""

    def make(seed: int = 0, fid: float = 2.0, rules: GateRules = RULES) -> ModelVersion:
        version = register(
            make_student(seed), tracking_uri, name, Circumstances(pipeline_run="run-7", hourly_price=12.5)
        )
        gate(version, make_scorecard(version.student_sha256, fid=fid), tracking_uri, rules, INPUTS)
        return version

    return make


def inputs(tracking_uri: str, run_id: str) -> dict[str, str]:
    found = connect(tracking_uri).get_run(run_id).inputs.dataset_inputs
    return {used.dataset.name: used.dataset.source for used in found}


def aliases(tracking_uri: str, name: str) -> dict[str, int]:
    found = connect(tracking_uri).get_registered_model(name).aliases
    return {alias: int(version) for alias, version in found.items()}


def models(tracking_uri: str) -> set[str]:
    return {model.name for model in connect(tracking_uri, create=True).search_registered_models()}


def artifacts(tracking_uri: str, run_id: str) -> Path:
    return Path(connect(tracking_uri).get_run(run_id).info.artifact_uri.removeprefix("file://"))


def test_a_version_that_passed_becomes_the_champion_there(passed, tracking_uri, target, name):
    version = passed()
    done = transfer(tracking_uri, name, "1", target)
    assert done.version.student_sha256 == version.student_sha256
    assert done.verdict.passed
    assert done.promotion == Promotion(name=name, champion_version=1, previous_version=None, changed=True)
    assert aliases(target, name) == {"champion": 1}
    assert aliases(tracking_uri, name) == {}

    client = connect(target)
    tags = client.get_model_version(name, "1").tags
    before = connect(tracking_uri).get_model_version(name, "1").tags
    (said,) = (value for key, value in tags.items() if key == f"transfer.{before['verdict_sha256'][:16]}")
    assert said.startswith(f"from {name} version 1 at {tracking_uri}, ")
    assert said.endswith(f", verdict {before['verdict_sha256']}")
    for kept in ("pipeline_run", "hourly_price", "training_cost", "scorecard_sha256", "recipe", "score/accuracy"):
        assert tags[kept] == before[kept]

    assert {"teacher", "judge"} <= inputs(tracking_uri, version.run_id).keys()
    assert inputs(target, done.version.run_id) == inputs(tracking_uri, version.run_id)

    evidence = artifacts(target, done.version.run_id) / "transfer" / before["verdict_sha256"][:16]
    at_home = artifacts(tracking_uri, version.run_id) / "evaluation"
    for file in ("verdict.json", "gate_rules.json"):
        assert (evidence / file).read_bytes() == (at_home / file).read_bytes()
    assert json.loads((evidence / "tags.json").read_text()) == before
    assert list(examine(target, name, files=True)) == []


def test_the_same_again_changes_nothing(passed, tracking_uri, target, name):
    passed()
    first = transfer(tracking_uri, name, "1", target)
    client = connect(target)
    before = client.get_model_version(name, "1")
    again = transfer(tracking_uri, name, "1", target)
    assert (again.version, again.verdict) == (first.version, None)
    assert not again.promotion.changed
    after = client.get_model_version(name, "1")
    assert (after.tags, after.aliases) == (before.tags, before.aliases)
    assert len(client.search_model_versions(f"name = '{name}'")) == 1


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step == "register" else pytest.mark.long) for step in STEPS]
)
def test_a_transfer_killed_after_a_step_is_resumed(passed, tracking_uri, target, name, monkeypatch, step):
    passed()
    original = getattr(module, step)

    def killed(*given, **named):
        original(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(tracking_uri, name, "1", target)
    done_before = step == "promote"
    if name in models(target):
        assert aliases(target, name) == ({"champion": 1} if done_before else {})
    assert transfer(tracking_uri, name, "1", target).promotion.changed is not done_before
    assert aliases(target, name) == {"champion": 1}
    client = connect(target)
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    tags = client.get_model_version(name, "1").tags
    assert len([key for key in tags if key.startswith("transfer.")]) == 1
    assert list(examine(target, name, files=True)) == []


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model/artifacts/student/unet/diffusion_pytorch_model.safetensors", "changed"),
        ("evaluation/verdict.json", "missing"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                ("model/artifacts/student/student.json", "changed"),
                ("model/artifacts/student/README.md", "changed"),
                ("model/artifacts/student/README.md", "missing"),
                ("README.md", "missing"),
                ("evaluation/scorecard.json", "changed"),
                ("evaluation/grids/student 1 step.png", "changed"),
                ("evaluation/verdict.json", "changed"),
            )
        ),
        ("evaluation/gate_rules.json", "changed"),
    ],
)
def test_what_was_changed_in_the_store_is_refused(passed, tracking_uri, target, name, file, damage):
    path = artifacts(tracking_uri, passed(seed=1).run_id) / file
    data = bytearray(path.read_bytes())
    path.unlink()  # it may be a hard link
    if damage == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    # A changed byte in the middle of a record's file can also make it no record.
    with pytest.raises(InputError, match=r"SHA-256|missing|not a Student record|are of student"):
        transfer(tracking_uri, name, "1", target)
    assert name not in models(target)


def test_a_better_champion_there_stays(passed, tracking_uri, target, name, make_student, make_scorecard):
    passed(seed=2, fid=2.0)
    best = register(make_student(3), target, name)
    promote(gate(best, make_scorecard(best.student_sha256, fid=1.0), target, RULES), target)
    done = transfer(tracking_uri, name, "1", target)
    assert not done.verdict.passed
    assert done.verdict.champion_version == best.version
    assert "champion version 1 has 1: worse by 1 " in done.verdict.rules[1].found
    assert not done.promotion.changed
    assert aliases(target, name) == {"champion": best.version}


def test_a_version_that_did_not_pass_stays_where_it_is(passed, tracking_uri, target, name):
    strict = GateRules(floors=(Floor(subject=STUDENT, score="accuracy", limit=0.99),))
    passed(rules=strict)
    with pytest.raises(VerdictError, match=r"did not pass the gate \(accuracy of .* at least 0.99: 0.9"):
        transfer(tracking_uri, name, "1", target)
    assert name not in models(target)


def test_a_verdict_with_tags_of_another_is_refused(passed, tracking_uri, target, name):
    """A gate that was killed between its tags: the verdict is new, and says no, and the tag is of the one before."""
    version = passed()
    client = connect(tracking_uri)
    passed(rules=GateRules(floors=(Floor(subject=STUDENT, score="accuracy", limit=0.99),)))
    client.set_model_version_tag(name, str(version.version), "verdict", "passed")
    with pytest.raises(InputError, match="are not those of its verdict"):
        transfer(tracking_uri, name, "1", target)
    assert name not in models(target)


def test_what_was_never_judged_is_refused(tracking_uri, target, name, make_student):
    register(make_student(4), tracking_uri, name)
    with pytest.raises(InputError, match="has no verdict; run `sidlsg gate` there first"):
        transfer(tracking_uri, name, "1", target)
    with pytest.raises(InputError, match="no version or alias 'champion'"):
        transfer(tracking_uri, name, "champion", target)
    assert name not in models(target)


def test_a_registry_is_not_its_own_target(passed, tracking_uri, name):
    passed()
    other_words = tracking_uri.replace("sqlite:////", "sqlite:////./")
    with pytest.raises(InputError, match="is the one that version 1"):
        transfer(tracking_uri, name, "1", other_words, f"{name}-again")


def test_the_target_needs_its_own_approval(passed, tracking_uri, target, name):
    version = passed()
    approved = GateRules(floors=(FLOOR,), approvals=(Approval(people=("ann",)),))
    connect(tracking_uri).set_model_version_tag(name, str(version.version), "approved_by", "ann")
    other = f"{name}-live"
    done = transfer(tracking_uri, name, "1", target, other, approved)
    assert [rule.passed for rule in done.verdict.rules] == [True, False]
    assert aliases(target, other) == {}
    connect(target).set_model_version_tag(other, "1", "approved_by", "ann")
    assert transfer(tracking_uri, name, "1", target, other, approved).promotion.changed
    assert aliases(target, other) == {"champion": 1}


def test_a_second_verdict_leaves_a_second_line(passed, tracking_uri, target, name):
    passed()
    transfer(tracking_uri, name, "1", target)
    passed(rules=GateRules(floors=(FLOOR,)))
    transfer(tracking_uri, name, "1", target)
    tags = connect(target).get_model_version(name, "1").tags
    assert len([key for key in tags if key.startswith("transfer.")]) == 2


def test_tags_that_people_changed_do_no_harm(passed, tracking_uri, target, name):
    passed()
    connect(tracking_uri).set_model_version_tag(name, "1", "hourly_price", "twelve")
    transfer(tracking_uri, name, "1", target)
    assert "hourly_price" not in connect(target).get_model_version(name, "1").tags


def test_the_command_prints_what_it_did(passed, tracking_uri, target, name, tmp_path, monkeypatch, capsys):
    passed()
    strict = tmp_path / "rules.toml"
    strict.write_text(gate_rules_text(GateRules(floors=(Floor(subject=STUDENT, score="accuracy", limit=0.95),))))
    words = ["transfer", name, "1", "--from", tracking_uri, "--tracking-uri", target, "--output", str(tmp_path / "out")]

    def code(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sidlsg", *words, *more])
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    assert code("--rules", str(strict)) == 3
    assert "accuracy of student 1 step is at least 0.95: 0.9" in capsys.readouterr().out
    assert code("--json") == 0
    assert '"changed": true' in capsys.readouterr().out
    records = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert records == ["model_version.json", "promotion.json", "verdict.json"]
