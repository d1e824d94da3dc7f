"""A registry with holes: deleted versions, runs and files. Every call that meets one names the doctor, who mends it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from services.verdicts import leave, verdict
from sidlsg.registry.doctor import Finding, examine
from sidlsg.registry.files import fetch_student
from sidlsg.registry.gate_rules import Floor, GateRules
from sidlsg.registry.promotion import promote, rollback
from sidlsg.registry.registration import register
from sidlsg.registry.versions import find_version
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate import gate, record_scores, transfer
from sidlsg.storage.records import ModelVersion, Student

RULES = GateRules(floors=(Floor(subject="student 1 step", score="accuracy", limit=0.5),), ratios=(), no_regression=())


@pytest.fixture
def name(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """A model with three versions, each with a run and none with files: promotion reads nothing of them."""
    name = f"deleted-{request.node.name}"
    client.create_registered_model(name)
    experiment = client.create_experiment(name)
    for _ in range(3):
        run = client.create_run(experiment).info
        client.create_model_version(name, source=f"{run.artifact_uri}/model", run_id=run.run_id)
    for number, champion in ((1, None), (2, 1)):
        leave(verdict(name, number, champion), client)
        promote(verdict(name, number, champion), client.tracking_uri)
    leave(verdict(name, 3, 2), client)
    return name


def lose_version(client: MlflowClient, name: str, number: int) -> None:
    """Delete a version so that its aliases stay, as some stores and importers do."""
    with sqlite3.connect(client.tracking_uri.removeprefix("sqlite:///")) as store:
        change = "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE name = ? AND version = ?"
        assert store.execute(change, (name, number)).rowcount == 1


def mend(findings: list[Finding]) -> list[str]:
    """Do what the doctor can; what was found."""
    for finding in findings:
        assert finding.mend is not None, finding
        finding.mend()
    return [finding.what for finding in findings]


def named(attempt: Callable[[], object], name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        attempt()
    assert f"`sidlsg registry doctor {name} --fix`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alias_of_a_deleted_version_is_named_and_removed(client: MlflowClient, name: str) -> None:
    uri = client.tracking_uri
    client.set_registered_model_alias(name, "nightly", "2")
    lose_version(client, name, 2)
    for attempt in (
        lambda: promote(verdict(name, 3, 2), uri),
        lambda: rollback(uri, name, "it draws badly"),
        lambda: find_version(uri, name, "champion"),
    ):
        named(attempt, name, "alias 'champion'.* names version 2, which was deleted")
    named(lambda: find_version(uri, name, "2"), name, "alias 'champion'.* names version 2, which was deleted")
    champion, nightly = examine(uri, name)
    assert "`sidlsg rollback` makes version 1 the champion again" in champion.advice
    assert mend([champion, nightly]) == [
        f"the alias {alias!r} names version 2, which was deleted" for alias in ("champion", "nightly")
    ]
    assert examine(uri, name) == []
    assert rollback(uri, name, "the other one is gone").champion_version == 1


def test_a_way_back_to_a_deleted_version_is_named_and_removed(client: MlflowClient, name: str) -> None:
    uri = client.tracking_uri
    lose_version(client, name, 1)
    named(lambda: rollback(uri, name, "it draws badly"), name, "alias 'previous'.* names version 1, which was deleted")
    assert mend(examine(uri, name)) == ["the alias 'previous' names version 1, which was deleted"]
    with pytest.raises(InputError, match="had no champion before this one"):
        rollback(uri, name, "it draws badly")
    assert promote(verdict(name, 3, 2), uri).champion_version == 3


def test_an_alias_that_moved_meanwhile_is_left_alone(client: MlflowClient, name: str) -> None:
    lose_version(client, name, 2)
    (finding,) = examine(client.tracking_uri, name)
    client.set_registered_model_alias(name, "champion", "3")
    mend([finding])
    assert int(client.get_registered_model(name).aliases["champion"]) == 3


def test_a_version_whose_run_was_deleted_is_not_promoted(client: MlflowClient, name: str) -> None:
    uri = client.tracking_uri
    for number in ("1", "3"):
        client.delete_run(client.get_model_version(name, number).run_id)
    named(lambda: promote(verdict(name, 3, 2), uri), name, "run of version 3 .* was deleted")
    named(lambda: rollback(uri, name, "it draws badly"), name, "run of version 1 .* was deleted")
    assert int(client.get_registered_model(name).aliases["champion"]) == 2
    assert mend(examine(uri, name)) == [f"the run of version {number} was deleted" for number in (1, 3)]
    assert examine(uri, name) == []
    assert promote(verdict(name, 3, 2), uri).champion_version == 3


def test_a_deleted_run_is_named_by_every_call_and_restored(
    client: MlflowClient, make_student: Any, make_scorecard: Any, tmp_path: Path
) -> None:
    uri, folder, name = client.tracking_uri, make_student(), "runless"
    version = register(folder, uri, name)
    card = make_scorecard(version.student_sha256)
    assert gate(version, card, uri, RULES).passed
    client.delete_run(version.run_id)
    there = f"sqlite:///{tmp_path}/there/mlflow.db"
    for attempt in (
        lambda: gate(version, card, uri, RULES),
        lambda: record_scores(version, card, uri),
        lambda: fetch_student(version, uri, tmp_path / "student"),
        lambda: find_version(uri, name, "1"),
        lambda: transfer(uri, name, "1", there),
    ):
        named(attempt, name, "run of version 1 of 'runless' was deleted")
    named(lambda: register(folder, uri, name), name, "version 1 .* not whole: its run was deleted")
    assert mend(examine(uri, name)) == ["the run of version 1 was deleted"]
    assert examine(uri, name) == []
    assert register(folder, uri, name) == version
    # With its experiment, every run goes.
    client.delete_experiment(client.get_experiment_by_name(name).experiment_id)
    named(lambda: gate(version, card, uri, RULES), name, "was deleted")
    assert mend(examine(uri, name)) == [
        "the experiment 'runless' was deleted, and its runs with it",
        "the run of version 1 was deleted",
    ]
    assert gate(version, card, uri, RULES).passed
    # Its scorecard alone: the gate brings it back.
    shutil.rmtree(artifacts(client, version) / "evaluation")
    (finding,) = examine(uri, name)
    assert (finding.what, finding.mend) == ("version 1 was scored, and its scorecard is gone", None)
    gate(version, card, uri, RULES)
    assert examine(uri, name) == []


def artifacts(client: MlflowClient, version: ModelVersion) -> Path:
    return Path(client.get_run(version.run_id).info.artifact_uri.removeprefix("file://"))


def test_lost_files_are_named_by_every_call_and_the_student_comes_back(
    client: MlflowClient, make_student: Any, tmp_path: Path
) -> None:
    uri, folder, name = client.tracking_uri, make_student(), "fileless"
    version = register(folder, uri, name)
    shutil.rmtree(artifacts(client, version))
    named(lambda: register(folder, uri, name), name, "not whole: its card, README.md, is gone")
    named(lambda: fetch_student(version, uri, tmp_path / "student"), name, "cannot be downloaded")
    # A second version of the same run is as empty, and is not kept for being the same.
    first = client.get_model_version(name, "1")
    client.create_model_version(name, first.source, version.run_id, tags=first.tags)
    found = examine(uri, name)
    assert [finding.what.partition(":")[0] for finding in found] == [f"version {n} is not whole" for n in (1, 2)]
    mend(found)
    again = register(folder, uri, name)
    assert again.version == 3
    assert Student.load(fetch_student(again, uri, tmp_path / "student")).digest == version.student_sha256
    # Its run with everything that it had, by `mlflow gc`.
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as store:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            store.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (again.run_id,))
    named(lambda: find_version(uri, name, "3"), name, "run of version 3 .* is gone")
    assert mend(examine(uri, name)) == ["version 3 is not whole: its run is gone"]


def test_a_deleted_teacher_is_named_and_the_same_one_linked_again(client: MlflowClient, make_student: Any) -> None:
    uri, folder, name = client.tracking_uri, make_student(), "orphan"
    register(folder, uri, name)
    teacher = client.get_model_version("orphan-teacher", "1")
    client.delete_model_version("orphan-teacher", "1")
    (finding,) = examine(uri, name)
    assert finding.what == "version 1 names version 1 of 'orphan-teacher' as its teacher, which was deleted"
    assert "sidlsg register-teacher" in finding.advice
    assert finding.mend is None
    client.create_model_version("orphan-teacher", teacher.source, teacher.run_id, tags=teacher.tags)
    mend(examine(uri, name))
    linked = client.get_model_version(name, "1")
    assert linked.tags["teacher_version"] == "2"
    assert "Teacher: orphan-teacher version 2." in linked.description
    assert examine(uri, name) == examine(uri, "orphan-teacher") == []
    client.delete_run(teacher.run_id)
    assert mend(examine(uri, "orphan-teacher")) == ["the run of version 2 was deleted"]
    assert examine(uri, "orphan-teacher") == []
