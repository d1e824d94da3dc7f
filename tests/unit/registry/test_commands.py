"""The commands of the registry on one model: judged and promoted by name, asked for JSON, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.storage.records import Student, Verdict

Run = Callable[..., tuple[int, str, str]]
RULES = """
[[floor]]
score = "accuracy"
limit = 0.5
"""


@pytest.fixture(autouse=True)
def store(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow, given by the variable alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    return tracking_uri


@pytest.fixture
def registered(sidlsg: Run, make_student: Callable[..., Path], make_scorecard: Callable[..., Path]) -> Run:
    """Register a student of a seed under a name, and return a function that judges its version."""

    def judge(name: str, seed: int, *options: str) -> tuple[int, str, str]:
        student = make_student(seed)
        code, out, errors = sidlsg("register", "--student", str(student), "--name", name)
        assert code == 0, errors
        version = json.loads(out)["version"]
        card = make_scorecard(Student.load(student).digest)
        (card / "rules.toml").write_text(RULES)
        given = ("--scorecard", str(card), "--rules", str(card / "rules.toml"), *options)
        return sidlsg("gate", name, str(version), *given)

    return judge


def test_a_version_is_judged_and_promoted_by_name(registered: Run, sidlsg: Run) -> None:
    code, out, _ = registered("named", 1, "--json")
    assert code == 0
    verdict = Verdict.from_json(out)
    assert (verdict.name, verdict.version, verdict.passed) == ("named", 1, True)
    assert json.loads(sidlsg("promote", "named", "1")[1])["champion_version"] == 1
    code, out, _ = sidlsg("registry", "doctor", "named", "--json")
    assert (code, json.loads(out)) == (0, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "MODEL and VERSION are missing"),
        (("named",), "VERSION is missing"),
        (("named", "1", "--verdict", "verdict.json"), "MODEL and --verdict are both given"),
    ],
)
def test_a_version_or_a_record_is_given_and_not_both(given: tuple[str, ...], said: str, sidlsg: Run) -> None:
    code, _, errors = sidlsg("promote", *given)
    assert code == 2
    assert said in errors


def test_a_version_without_a_verdict_is_not_promoted(sidlsg: Run, make_student: Callable[..., Path]) -> None:
    sidlsg("register", "--student", str(make_student(7)), "--name", "unjudged")
    code, _, errors = sidlsg("promote", "unjudged", "1")
    assert code == 2
    assert "has no verdict; run `sidlsg gate`" in errors


def test_a_version_is_deleted_with_its_files_and_its_run(registered: Run, sidlsg: Run, client: MlflowClient) -> None:
    registered("deleted", 1)
    registered("deleted", 2)
    sidlsg("promote", "deleted", "1")
    run = client.get_run(client.get_model_version("deleted", "2").run_id)
    files = Path(run.info.artifact_uri.removeprefix("file://"))

    code, out, _ = sidlsg("delete", "version", "deleted", "2", "--dry-run")
    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("would delete: ")]) == 3
    assert any(files.iterdir())

    assert sidlsg("delete", "version", "deleted", "2")[0] == 0
    with pytest.raises(MlflowException, match="not found"):
        client.get_model_version("deleted", "2")
    assert not files.exists() or not any(files.rglob("*.safetensors"))
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_model_version("deleted", "1")
    code, out, _ = sidlsg("registry", "doctor", "deleted", "--files")
    assert code == 0, out


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_the_champion_and_the_previous_one_stay(
    registered: Run, sidlsg: Run, client: MlflowClient, dry_run: tuple[str, ...]
) -> None:
    name = f"kept{len(dry_run)}"
    for seed in (1, 2):
        registered(name, seed)
        assert sidlsg("promote", name, str(seed))[0] == 0
    for alias, version in (("champion", "2"), ("previous", "1")):
        for which in (alias, version):
            code, _, errors = sidlsg("delete", "version", name, which, *dry_run)
            assert code == 2
            assert f"is {alias}, and stays" in errors
    assert client.get_model_version(name, "1")
    assert client.get_model_version(name, "2")
