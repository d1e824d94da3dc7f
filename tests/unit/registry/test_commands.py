"""The commands of the registry on one model: judged and promoted by name, asked for JSON, deleted."""

from __future__ import annotations

import json
import shutil
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

    def judge(name: str, seed: int, *options: str, rules: str = RULES) -> tuple[int, str, str]:
        student = make_student(seed)
        code, out, errors = sidlsg("register", "--student", str(student), "--name", name, "--json")
        assert code == 0, errors
        version = json.loads(out)["version"]
        card = make_scorecard(Student.load(student).digest)
        (card / "rules.toml").write_text(rules)
        given = ("--scorecard", str(card), "--rules", str(card / "rules.toml"), *options)
        return sidlsg("gate", name, str(version), *given)

    return judge


def test_a_version_is_judged_and_promoted_by_name(registered: Run, sidlsg: Run) -> None:
    code, out, _ = registered("named", 1, "--json")
    assert code == 0
    verdict = Verdict.from_json(out)
    assert (verdict.name, verdict.version, verdict.passed) == ("named", 1, True)
    assert json.loads(sidlsg("promote", "named", "1", "--json")[1])["champion_version"] == 1
    code, out, _ = sidlsg("registry", "doctor", "named", "--json")
    assert (code, json.loads(out)) == (0, [])


def test_what_was_done_is_one_plain_line(registered: Run, sidlsg: Run, make_student: Callable[..., Path]) -> None:
    registered("plain", 1)
    given = ("register", "--student", str(make_student(1)), "--name", "plain")
    lines = [
        (given, "version 1 of plain is registered\n"),
        ((*given, "--quiet"), ""),
        (("promote", "plain", "1"), "Champion of plain is now version 1 (the first).\n"),
        (("promote", "plain", "1"), "Champion of plain stays version 1.\n"),
    ]
    for words, line in lines:
        assert sidlsg(*words)[:2] == (0, line)
    registered("plain", 2)
    lines = [
        (("promote", "plain", "2", "--quiet"), ""),
        (("rollback", "plain", "--reason", "r"), "Champion of plain is now version 1 (version 2 before).\n"),
        (("rollback", "plain", "--reason", "r", "--quiet"), ""),
    ]
    for words, line in lines:
        assert sidlsg(*words)[:2] == (0, line)
    assert json.loads(sidlsg("rollback", "plain", "--reason", "r", "--json")[1])["champion_version"] == 1


def test_the_error_counts_the_rules_that_the_table_shows(registered: Run, sidlsg: Run, tmp_path: Path) -> None:
    rules = f"{RULES}\n[[floor]]\nscore = 'fid'\nlimit = 0.1\n"
    code, out, errors = registered("counted", 1, "--output", str(tmp_path / "verdict"), rules=rules)
    assert code == 3
    assert out.splitlines()[1].startswith("  FAILED  fid of student 1 step is at most 0.1: 2 (")
    assert errors == "error: 1 of 2 gate rules failed; the champion stays as it was\n"
    code, out, errors = sidlsg("promote", "--verdict", str(tmp_path / "verdict"))
    assert (code, out) == (3, "counted has no champion.\n")
    assert errors.startswith("error: 1 of 2 gate rules failed (fid of student 1 step is at most 0.1: 2 (")


def test_the_error_of_a_rule_names_its_file(registered: Run) -> None:
    code, _, errors = registered("misfit", 1, rules=RULES.replace("accuracy", "acuracy"))
    assert code == 2
    assert "error: gate rules /" in errors
    assert "/rules.toml: a rule does not fit the scorecard: student 1 step has no score 'acuracy'" in errors
    assert "it has: fid; accuracy; change the rule, or give --rules FILE" in errors


@pytest.mark.parametrize("option", ["--model-version", "--version"])
def test_a_version_is_given_by_its_record_and_a_scorecard_by_its_own_folder(
    option: str, sidlsg: Run, make_student: Callable[..., Path], make_scorecard: Callable[..., Path], tmp_path: Path
) -> None:
    student = make_student(1)
    sidlsg("register", "--student", str(student), "--name", "record", "--output", str(tmp_path / "version"))
    run = tmp_path / "run"
    card = Path(shutil.copytree(make_scorecard(Student.load(student).digest), run / "scorecard"))
    (card / "rules.toml").write_text(RULES)
    given = ("gate", option, str(tmp_path / "version"), "--rules", str(card / "rules.toml"), "--scorecard")
    assert sidlsg(*given, str(card))[0] == 0
    # The folder of a whole run, without and with the run's copy of the record.
    code, _, errors = sidlsg(*given, str(run))
    assert code == 2
    assert f"no Scorecard record at {run / 'scorecard.json'}; give {card}, which has one" in errors
    shutil.copy(card / "scorecard.json", run)
    code, _, errors = sidlsg(*given, str(run))
    assert code == 2
    assert f"is missing, though scorecard.json names it; give {card}, which has one" in errors


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
