"""The whole pipeline on this machine; `conftest.py` says what is smaller than in a user's run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sidlsg.kubeflow.local.results import RunResult
from sidlsg.kubeflow.local.runs import run_local
from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate
from sidlsg.stages.run_request import RunRequest
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict
from sidlsg.storage.uri import open_store

STAGES = ["resolve", "curate", "encode", "distil", "register", "evaluate", "gate", "promote", "report"]
CACHED = ("curate", "encode", "distil", "evaluate")


@pytest.fixture
def run(tmp_path: Path, as_code: Callable[[str], None], changes: str) -> Callable[[str], RunResult]:
    def go(code: str) -> RunResult:
        as_code(code)
        prices = '{"distil": 12.5}'
        return run_local(
            distil_and_evaluate,
            RunRequest(run_dir=tmp_path / "run", changes=changes, model_name="shapes", prices=prices),
        )

    return go


def test_a_run_delivers_and_its_stages_are_kept_while_nothing_changes(
    run: Callable[[str], RunResult], images: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("1" * 64)
    shown = capsys.readouterr()
    assert [stage.name for stage in first.stages] == STAGES
    assert first.cached == ()
    assert_complete(first, tmp_path / "run", images)
    assert [line.split(" done in ")[0] for line in shown.out.splitlines() if " done in " in line] == [
        f"{name} ..." for name in STAGES
    ]
    assert "Warning" not in shown.out + shown.err
    assert any(line.startswith("  distil 100%") for line in shown.out.splitlines())

    second = run("1" * 64)
    assert second.cached == CACHED
    assert [stage.name for stage in second.stages] == STAGES
    assert (second.version, second.scorecard, second.verdict) == (first.version, first.scorecard, first.verdict)
    assert_complete(second, tmp_path / "run", images)
    assert "distil ... taken from the cache" in capsys.readouterr().out
    (version,) = MlflowClient(second.tracking_uri).search_model_versions("name = 'shapes'")
    # A stage from the cache costs what it cost when it ran.
    assert [row.cost for row in second.cost.stages if row.stage == "distil"] == [first.cost.total.cost]
    assert first.cost.amount == second.cost.amount > 0
    assert float(version.tags["run_cost"]) == pytest.approx(first.cost.amount, abs=1e-4)
    assert version.tags["hourly_price"] == "12.5"


@pytest.mark.long
def test_another_familys_run_needs_its_teacher_and_its_recipe_alone(changes: str, tmp_path: Path) -> None:
    request = RunRequest(run_dir=tmp_path / "run", changes=changes, teacher="bundled:tiny-sd3", recipe="tiny_flow")
    result = run_local(distil_and_evaluate, request)
    assert [stage.name for stage in result.stages] == STAGES
    assert Student.load(result.student).recipe_values["steps"] == 4
    assert "student 4 steps" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.long
def test_another_version_of_results_runs_every_stage_again(
    run: Callable[[str], RunResult], images: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("1" * 64)
    capsys.readouterr()
    second = run("2" * 64)
    assert second.cached == ()
    assert_complete(second, tmp_path / "run", images)
    assert "  continues from " in capsys.readouterr().out


@pytest.mark.long
def test_new_tables_on_s3_are_trained_on_and_the_same_ones_are_not(
    as_code: Callable[[str], None], changes: str, s3_place: str, assets: Path, tmp_path: Path
) -> None:
    as_code("1" * 64)
    tables = open_store(f"{s3_place}/captions")
    source = assets / "prompts" / "prompts.parquet"
    tables.put("week-1.parquet", source, sha256_file(source))
    asked = RunRequest(run_dir=tmp_path / "run", changes=changes, prompts=f"{s3_place}/captions")
    first = run_local(distil_and_evaluate, asked)
    sources = PromptSet.load(first.prompts).source_sha256
    assert first.cached == ()
    assert run_local(distil_and_evaluate, asked).cached == CACHED
    moved = replace(asked, tracking_uri=f"sqlite:///{tmp_path}/elsewhere.db", model_name="other")
    assert run_local(distil_and_evaluate, moved).cached == CACHED
    fresh = run_local(distil_and_evaluate, replace(asked, seed="fresh"))
    assert fresh.cached == ("curate", "encode")
    assert fresh.version.student_sha256 != first.version.student_sha256
    (tmp_path / "week-2.txt").write_text("a small red circle on a green background\n")
    tables.put("week-2.txt", tmp_path / "week-2.txt", sha256_file(tmp_path / "week-2.txt"))
    second = run_local(distil_and_evaluate, replace(asked, rules='{"score.enabled": false}'))
    assert second.cached == ()
    assert PromptSet.load(second.prompts).source_sha256 != sources


def assert_complete(result: RunResult, run_dir: Path, images: int) -> None:
    """Every result is in the run folder, whole, and speaks of the others."""
    expected = {
        "prompts",
        "student",
        "scorecard",
        "checkpoints",
        "mlflow",
        ".kfp",
        "report.html",
        "run.log",
        "run.json",
    }
    expected |= {ModelVersion.FILE, Scorecard.FILE, Verdict.FILE, Promotion.FILE}
    assert {path.name for path in run_dir.iterdir()} == expected
    prompts, student = PromptSet.load(result.prompts), Student.load(result.student)
    scorecard = Scorecard.load(result.scorecard_folder)
    prompts.verify(result.prompts)
    student.verify(result.student)
    scorecard.verify(result.scorecard_folder)
    assert student.prompts_sha256 == prompts.digest
    assert student.recipe_values["iterations"] == 2
    assert result.version.student_sha256 == scorecard.student_sha256 == student.digest
    assert scorecard.subject("student 1 step").scores[0].n == images
    assert result.verdict.scorecard_sha256 == scorecard.digest
    assert ModelVersion.load(run_dir) == result.version
    assert Verdict.load(run_dir) == result.verdict
    assert Promotion.load(run_dir) == result.promotion
    # Two iterations cannot pass the recipe's gate.
    assert not result.verdict.passed
    assert result.promotion.champion_version is None
    assert result.page.read_text().lstrip().lower().startswith("<!doctype html")
    assert json.loads((run_dir / "run.json").read_text())["state"] == "finished"
    assert (run_dir / "mlflow" / "mlflow.db").is_file()
