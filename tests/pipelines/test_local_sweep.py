"""A sweep on this machine, and one of its versions scored again; `conftest.py` says what is smaller than a user's."""

import dataclasses
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sidlsg.cli.catalog import PIPELINES, local_sweep
from sidlsg.cli.tables import print_evaluation, print_sweep
from sidlsg.kubeflow.local.runs import run_evaluation, run_local, run_sweep
from sidlsg.runtime.errors import InputError, StageError
from sidlsg.stages.run_request import RunRequest
from sidlsg.storage.records import ModelVersion, PromptSet, Scorecard, Student, Verdict

SETTINGS = ("lsg  steps=2 kappa=1.50", "lsg  kappa=1.50")
TEXTS = ["lsg kappa=1.5 steps=2", "lsg kappa=1.5"]
FOLDERS = {"lsg-kappa-1.5-steps-2", "lsg-kappa-1.5"}
ROUND = ["distil", "register", "evaluate"]


@pytest.mark.long
@pytest.mark.usefixtures("as_code")
def test_a_setting_that_fails_leaves_the_others_and_is_tried_again(changes: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "sweep"
    settings = ("lsg kappa=1e30 steps=2", "none")
    request = RunRequest(run_dir=run_dir, settings=settings, changes=changes, teacher_settings=("teacher 1 step",))
    told = []
    for _ in range(2):
        with pytest.raises(StageError, match=r"setting 'lsg kappa=1e\+30 steps=2': distil failed: ") as raised:
            run_sweep(local_sweep(), request)
        told.append(str(raised.value))
    assert str(run_dir / "scoreboard.html") in told[0]
    page = (run_dir / "scoreboard.html").read_text()
    assert "setting &#39;lsg kappa=1e+30 steps=2&#39;: distil failed" in page
    assert {path.name for path in (run_dir / "students").iterdir()} == {"none"}
    assert {path.name for path in (run_dir / "scorecards").iterdir()} == {"none"}
    assert json.loads((run_dir / "run.json").read_text())["state"].startswith("ended by StageError")
    # Each run tried it: its failure did not come from the cache.
    tries = {path.name for path in (run_dir / "checkpoints" / "sweep-failures").rglob("*.json")}
    assert tries == {"0-distil.json", "1-distil.json"}


@pytest.mark.long
@pytest.mark.usefixtures("as_code")
def test_a_sweep_compares_its_settings_and_its_versions_can_be_scored_again(
    changes: str, images: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "sweep"
    request = RunRequest(
        run_dir=run_dir,
        settings=SETTINGS,
        changes=changes,
        model_name="shapes",
        teacher_settings=("teacher 1 step",),  # the quickest one
    )
    first = run_sweep(local_sweep(), request)
    shown = capsys.readouterr().out
    assert [(stage.name, stage.setting) for stage in first.stages] == [
        *((name, "") for name in ("plan", "resolve", "curate", "encode")),
        *((name, setting) for setting in TEXTS for name in ROUND),
        ("compare", ""),
    ]
    assert first.cached == ()
    assert "lsg kappa=1.5: distil ... done in " in shown
    assert "compare ... done in " in shown.splitlines()[-1]

    prompts = PromptSet.load(run_dir / "prompts")
    subjects = ("student 2 steps", "student 1 step")
    for result, subject in zip(first.settings, subjects, strict=True):
        student = Student.load(result.student)
        student.verify(result.student)
        result.scorecard.verify(result.scorecard_folder)
        assert student.kappas == (1.5,) * 4
        assert result.scorecard.recipe_values == student.recipe_values
        assert student.prompts_sha256 == prompts.digest
        assert result.scorecard.student_sha256 == result.version.student_sha256 == student.digest
        assert result.scorecard.subject(subject).scores[0].n == images
    assert [result.setting for result in first.settings] == TEXTS
    assert [result.version.version for result in first.settings] == [1, 2]
    assert {path.name for path in (run_dir / "students").iterdir()} == FOLDERS
    assert {path.name for path in (run_dir / "scorecards").iterdir()} == FOLDERS
    assert first.page.read_text().lstrip().lower().startswith("<!doctype html")
    assert all(f">{text}<" in first.page.read_text() for text in TEXTS)
    client = MlflowClient(first.tracking_uri)
    assert len(client.search_model_versions("name = 'shapes'")) == 2
    assert client.get_registered_model("shapes").aliases == {}
    assert "fid/shapes-judge64-2016" in client.get_model_version("shapes", "2").tags["score/fid_judge"]
    read = client.get_run(first.settings[0].version.run_id).inputs.dataset_inputs
    assert {used.dataset.name for used in read} >= {"teacher", "held-out captions", "judge"}
    marker = json.loads((run_dir / "run.json").read_text())
    assert (marker["state"], marker["pipeline"]) == ("finished", "sweep")

    print_sweep(first)
    table = capsys.readouterr().out
    assert all(any(line.startswith(f"{text}  ") for line in table.splitlines()) for text in TEXTS)
    assert "fid_judge: fid/shapes-judge64-2016, 96 images" in table
    assert str(first.page) in table

    # What is asked for again costs nothing, and what is asked for no more goes from the results.
    fewer = run_sweep(local_sweep(), dataclasses.replace(request, settings=("lsg kappa=1.5",)))
    assert [(stage.name, stage.setting) for stage in fewer.stages if not stage.cached] == [
        ("plan", ""),
        ("resolve", ""),
        ("register", "lsg kappa=1.5"),
        ("compare", ""),
    ]
    assert fewer.settings == first.settings[1:]
    assert {path.name for path in (run_dir / "students").iterdir()} == {"lsg-kappa-1.5"}
    with pytest.raises(InputError, match="is of pipeline sweep, not of distil-and-evaluate"):
        run_local(PIPELINES["distil_and_evaluate"], RunRequest(run_dir=run_dir, changes=changes))

    client.set_registered_model_alias("shapes", "candidate", "2")
    capsys.readouterr()
    again = run_evaluation(
        PIPELINES["evaluate_only"],
        RunRequest(
            run_dir=tmp_path / "again", model_name="shapes", version="candidate", tracking_uri=first.tracking_uri
        ),
    )
    first_two, last_two = again.stages[:2], again.stages[2:]
    assert {stage.name for stage in first_two} == {"resolve", "find"}  # neither reads the other's results
    assert [stage.name for stage in last_two] == ["evaluate", "gate"]
    assert again.version == first.settings[1].version
    ours, theirs = (card.subject("student 1 step") for card in (again.scorecard, first.settings[1].scorecard))
    assert ours == theirs
    assert not again.verdict.passed
    assert Verdict.load(tmp_path / "again") == again.verdict
    assert ModelVersion.load(tmp_path / "again") == again.version
    assert Scorecard.load(tmp_path / "again") == again.scorecard
    assert again.page.read_text().lstrip().lower().startswith("<!doctype html")
    assert client.get_model_version("shapes", "2").tags["verdict"] == "rejected"
    assert "  version 2 of shapes" in capsys.readouterr().out
    print_evaluation(again)
    assert "did not pass the gate" in capsys.readouterr().out
