"""The whole pipeline on this machine: real stages in processes of their own, a real MLflow store, the real cache.

Training takes two iterations, and the evaluation draws fewer images than users' does; nothing else is smaller.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

import sidlsg.run.local
from sidlsg.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict
from sidlsg.run.local import run_local
from sidlsg.run.request import RunRequest, RunResult

STAGES = ["curate", "encode", "distil", "register", "evaluate", "gate", "promote", "report"]
CACHED = ("curate", "encode", "distil", "evaluate")
CHANGES = {"iterations": 2, "batch": 4, "micro_batch": 4, "grids": 1, "log_every": 1}
IMAGES = 96

# Python imports a module of this name before anything else; only the process of the evaluate stage is changed.
FEWER_IMAGES = f"""
import sys
if "evaluate" in sys.orig_argv:
    from functools import partial
    from sidlsg.evaluate import stage
    stage.load_shapes_protocols = partial(stage.load_shapes_protocols, count={IMAGES})
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunResult]:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(FEWER_IMAGES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def go(code: str) -> RunResult:
        # The code may change on the disk while tests run, so its digest is given.
        monkeypatch.setattr(sidlsg.run.local, "code_digest", lambda: code)
        return run_local(RunRequest(run_dir=tmp_path / "run", changes=json.dumps(CHANGES), model_name="shapes"))

    return go


def test_a_run_delivers_and_its_stages_are_kept_while_nothing_changes(
    run: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("1" * 64)
    shown = capsys.readouterr()
    assert [stage.name for stage in first.stages] == STAGES
    assert first.cached == ()
    assert_complete(first, tmp_path / "run")
    assert [line.split(" done in ")[0] for line in shown.out.splitlines() if " done in " in line] == [
        f"{name} ..." for name in STAGES
    ]
    assert "Warning" not in shown.out + shown.err
    assert any(line.startswith("  distil 100%") for line in shown.out.splitlines())

    second = run("1" * 64)
    assert second.cached == CACHED
    assert [stage.name for stage in second.stages] == STAGES
    assert (second.version, second.scorecard, second.verdict) == (first.version, first.scorecard, first.verdict)
    assert_complete(second, tmp_path / "run")
    assert "distil ... taken from the cache" in capsys.readouterr().out
    assert len(MlflowClient(second.tracking_uri).search_model_versions("name = 'shapes'")) == 1

    third = run("2" * 64)
    assert third.cached == ()
    assert_complete(third, tmp_path / "run")
    assert "  continues from " in capsys.readouterr().out


def assert_complete(result: RunResult, run_dir: Path) -> None:
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
    assert scorecard.subject("student 1 step").scores[0].n == IMAGES
    assert result.verdict.scorecard_sha256 == scorecard.digest
    assert ModelVersion.load(run_dir) == result.version
    assert Verdict.load(run_dir) == result.verdict
    assert Promotion.load(run_dir) == result.promotion
    # Two iterations cannot pass the recipe's gate.
    assert not result.verdict.passed
    assert result.promotion.champion_version is None
    assert result.report.read_text().lstrip().lower().startswith("<!doctype html")
    assert json.loads((run_dir / "run.json").read_text())["state"] == "finished"
    assert (run_dir / "mlflow" / "mlflow.db").is_file()
