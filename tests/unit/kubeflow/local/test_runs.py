"""The three kinds of local runs: what they check and pass on before the first stage."""

from __future__ import annotations

import fcntl
import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sidlsg.kubeflow.local.runs import (
    evaluate_arguments,
    pipeline_arguments,
    run_evaluation,
    run_local,
    run_sweep,
    sweep_arguments,
)
from sidlsg.kubeflow.sdk import LocalExecutionConfig
from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate
from sidlsg.pipelines.evaluate_only import evaluate_only
from sidlsg.pipelines.sweep import sweep
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import InputError, StageError
from sidlsg.stages.run_request import RunRequest
from sidlsg.storage.uri import uri_digest
from sidlsg.teacher.format import DIFFUSERS

BUNDLED = Path(str(files("sidlsg.assets")))


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    """A request with its own copy of the teacher."""
    teacher = shutil.copytree(BUNDLED / "tiny-sd", tmp_path / "teacher")
    return RunRequest(run_dir=tmp_path / "run", teacher=str(teacher))


def test_places_mean_the_same_in_another_folder_and_keep_their_digests(
    request_: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("a small red circle on a blue background\n")
    sha256 = uri_digest("mine.txt", DIFFUSERS)
    arguments = pipeline_arguments(replace(request_, held_out=f"mine.txt@sha256:{sha256}"), tmp_path / "run")
    assert arguments["held_out"] == f"{tmp_path}/mine.txt@sha256:{sha256}"
    assert arguments["prompts"] == "bundled:prompts/prompts.parquet"
    assert (arguments["teacher"], arguments["judge"]) == (request_.teacher, "bundled:judge/judge.safetensors")
    with pytest.raises(InputError, match="was given"):
        pipeline_arguments(replace(request_, held_out=f"mine.txt@sha256:{'0' * 64}"), tmp_path / "run")


def test_a_pinned_teacher_is_hashed_once(request_: RunRequest, tmp_path: Path, hashed: list[str]) -> None:
    sha256 = uri_digest(request_.teacher, DIFFUSERS)
    hashed.clear()
    teacher = f"{request_.teacher}@sha256:{sha256}"
    assert pipeline_arguments(replace(request_, teacher=teacher), tmp_path / "run")["teacher"] == teacher
    assert hashed.count(f"{request_.teacher}/unet/diffusion_pytorch_model.safetensors") == 1


def test_the_registry_is_in_the_run_folder_by_default(request_: RunRequest, tmp_path: Path) -> None:
    arguments = pipeline_arguments(request_, tmp_path / "run")
    assert arguments["tracking_uri"] == f"sqlite:///{tmp_path}/run/mlflow/mlflow.db"
    other = pipeline_arguments(replace(request_, tracking_uri="http://localhost:5000"), tmp_path / "run")
    assert other["tracking_uri"] == "http://localhost:5000"


def test_text_states_are_of_the_recipes_type(request_: RunRequest, tmp_path: Path) -> None:
    arguments = pipeline_arguments(request_, tmp_path / "run")
    assert (arguments["embeddings_gb"], arguments["embeddings_dtype"]) == (0.0, "float32")
    other = replace(request_, embeddings_gb=2, changes='{"text_states": "float16"}')
    arguments = pipeline_arguments(other, tmp_path / "run")
    assert (arguments["embeddings_gb"], arguments["embeddings_dtype"]) == (2.0, "float16")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "tinny"}, r"did you mean 'tiny'\?"),
        ({"recipe": "sd21"}, "has no gate"),
        ({"changes": '{"lr": "fast"}'}, "lr is 'fast'"),
        ({"rules": '{"x": 1}'}, "no section 'x'"),
        ({"teacher": "/nowhere/at/all"}, "nothing at /nowhere"),
        ({"seed": "random"}, "seed 'random' given"),
        ({"embeddings_gb": float("inf")}, "embeddings_gb is inf, not a size"),
        ({"embeddings_gb": -1.0}, "embeddings_gb is -1.0, not a size"),
        ({"hourly_price": float("nan")}, "is nan, not a price"),
        ({"hourly_price": -1.0}, "is -1.0, not a price"),
        ({"prices": '{"distl": 1}'}, r"not a stage with a price \(did you mean 'distil'\?\)"),
        ({"prices": '{"distil": -1}'}, "price of distil is -1.0, not a price"),
    ],
)
def test_what_cannot_work_is_reported_before_anything_is_written(
    request_: RunRequest, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_local(distil_and_evaluate, replace(request_, **changed))
    assert not request_.run_dir.exists()


def test_a_teacher_without_a_unet_is_reported_before_anything_is_written(request_: RunRequest) -> None:
    for file in (Path(request_.teacher) / "unet").iterdir():
        file.unlink()
    (Path(request_.teacher) / "unet").rmdir()
    with pytest.raises(InputError, match="has no unet") as caught:
        run_local(distil_and_evaluate, request_)
    assert caught.value.exit_code == 2
    assert not request_.run_dir.exists()


def test_a_folder_name_that_mlflow_cannot_take_is_refused(request_: RunRequest, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rename it"):
        run_local(distil_and_evaluate, replace(request_, run_dir=tmp_path / "run #1"))


def test_a_folder_with_something_else_is_left_alone(request_: RunRequest) -> None:
    request_.run_dir.mkdir()
    (request_.run_dir / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        run_local(distil_and_evaluate, request_)
    assert [p.name for p in request_.run_dir.iterdir()] == ["thesis.txt"]


def test_two_runs_in_one_folder_are_refused(request_: RunRequest) -> None:
    request_.run_dir.mkdir()
    handle = os.open(request_.run_dir, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(InputError, match="another run is going on"):
            run_local(distil_and_evaluate, request_)
    finally:
        os.close(handle)


def test_a_failing_stage_ends_the_run_with_its_own_message(
    request_: RunRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "held_out.txt"
    empty.write_text("\n")
    environment, handlers = dict(os.environ), logging.getLogger().handlers[:]
    with pytest.raises(StageError) as caught:
        run_local(distil_and_evaluate, replace(request_, held_out=str(empty)))

    assert str(caught.value) == f"held-out list {empty} has no caption; give UTF-8 text with one caption a line"
    assert (caught.value.stage, caught.value.exit_code) == ("curate", 2)
    *_, first, last = capsys.readouterr().out.splitlines()
    assert first == "curate ..."
    assert last.startswith("curate ... failed after ")
    assert "Traceback" in (request_.run_dir / "run.log").read_text()
    assert json.loads((request_.run_dir / "run.json").read_text())["state"].startswith("ended by StageError: held-out")
    assert not (request_.run_dir / ".kfp" / "tmp").exists()
    assert dict(os.environ) == environment
    assert logging.getLogger().handlers == handlers
    assert LocalExecutionConfig.instance is None
    # The same folder takes the next try.
    with pytest.raises(StageError):
        run_local(distil_and_evaluate, replace(request_, held_out=str(empty)))


def test_the_command_line_s_help_needs_no_kfp() -> None:
    code = "import sys, sidlsg.kubeflow.local.results; sys.exit('kfp' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_name": "a/b"}, "model name 'a/b' is not allowed"),
        ({"tracking_uri": "nonsense"}, "is not an address"),
        ({"judge": "JUDGE"}, "is not a readable safetensors file"),
        ({"prompts": "PROMPTS"}, "is of no format that is known"),
    ],
)
def test_later_stages_inputs_are_checked_first(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text("not what it should be")
    given = {name: str(bad) if value.isupper() else value for name, value in changed.items()}
    with pytest.raises(InputError, match=message):
        run_local(distil_and_evaluate, RunRequest(run_dir=tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def evaluation(tmp_path: Path) -> RunRequest:
    return RunRequest(
        run_dir=tmp_path / "run", model_name="shapes", version="3", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"
    )


def test_the_version_is_asked_of_the_given_registry(evaluation: RunRequest, tmp_path: Path) -> None:
    arguments = evaluate_arguments(evaluation, tmp_path / "run")
    assert (arguments["model_name"], arguments["version"]) == ("shapes", "3")
    assert arguments["tracking_uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert arguments["teacher"] == "bundled:tiny-sd"
    assert "prompts" not in arguments


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tracking_uri": ""}, "no MLflow is given"),
        ({"tracking_uri": "nonsense"}, "is not an address"),
        ({"recipe": "sd21"}, "has no gate"),
        ({"held_out": "/"}, "/ is a folder; give the URI of one file: a text file of evaluation prompts"),
    ],
)
def test_an_evaluation_that_cannot_work_is_reported_before_anything_is_written(
    evaluation: RunRequest, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_evaluation(evaluate_only, replace(evaluation, **changed))
    assert not evaluation.run_dir.exists()


def test_a_registry_that_is_not_there_is_reported_before_anything_is_written(evaluation: RunRequest) -> None:
    with pytest.raises(InputError, match="no MLflow store at"):
        run_evaluation(evaluate_only, evaluation)
    assert not evaluation.run_dir.exists()


def test_a_mistyped_version_is_reported_before_anything_is_written(evaluation: RunRequest) -> None:
    client = connect(evaluation.tracking_uri, create=True)
    client.create_registered_model("shapes")
    client.create_model_version("shapes", source="file:///elsewhere")
    client.set_registered_model_alias("shapes", "champion", "1")
    for which, message in (
        ("2", "has no version 2; it has version 1 alone: give that"),
        ("champoin", r"did you mean 'champion'\?"),
    ):
        with pytest.raises(InputError, match=message):
            run_evaluation(evaluate_only, replace(evaluation, version=which))
    with pytest.raises(InputError, match=r"no model 'shape' .*did you mean 'shapes'\?"):
        run_evaluation(evaluate_only, replace(evaluation, model_name="shape"))
    assert not evaluation.run_dir.exists()


def test_settings_are_given_as_records_have_them(tmp_path: Path) -> None:
    settings = (" none", "lsg  kappa=2.0", "none  steps=2 lr=2e-6")
    request = RunRequest(run_dir=tmp_path / "run", settings=settings, recipe="sd15")
    arguments = sweep_arguments(request, tmp_path / "run")
    assert arguments["settings"] == ["none", "lsg kappa=2", "none lr=2e-06 steps=2"]
    # No gate is asked, so a recipe without one can be swept.
    assert (arguments["recipe"], arguments["embeddings_dtype"]) == ("sd15", "float16")


def test_what_the_evaluation_is_asked_for_becomes_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = RunRequest(
        run_dir=tmp_path / "run", teacher_settings=("teacher 4 steps, CFG", "teacher 1 step"), keep_images="pictures"
    )
    arguments = sweep_arguments(request, tmp_path / "run")
    assert (arguments["protocols"], arguments["weights"]) == ("", "")
    assert arguments["teacher_settings"] == "teacher 4 steps, CFG;teacher 1 step"
    assert arguments["keep_images"] == f"{tmp_path}/pictures"
    elsewhere = sweep_arguments(replace(request, keep_images="s3://bucket/pictures"), tmp_path / "run")
    assert elsewhere["keep_images"] == "s3://bucket/pictures"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": ()}, "without settings"),
        ({"settings": ("lsg",)}, "setting 'lsg': strategy 'lsg' needs kappa"),
        ({"settings": ("none", "lsg kappa=1")}, "mean the same"),
        ({"settings": ("none steps=9",)}, "setting 'none steps=9': steps is 9"),
        ({"settings": ("none steps=2",), "changes": json.dumps({"steps": 2})}, "replace steps, which a sweep's"),
        ({"changes": json.dumps({"strategy": "none"})}, "which a sweep's settings do"),
        ({"recipe": "tinny"}, r"did you mean 'tiny'\?"),
        ({"model_name": "a/b"}, "model name 'a/b' is not allowed"),
        ({"embeddings_gb": -1.0}, "not a size"),
        ({"protocols": ("fid/coco",)}, "protocol 'fid/coco' is unknown"),
        ({"protocols": ("fid/coco2014-30k-clean",)}, "weights.toml"),
        ({"weights": Path("nowhere.toml")}, "nowhere.toml cannot be read"),
        ({"teacher_settings": ("teacher 2 steps",)}, "the teacher has no setting 'teacher 2 steps'"),
    ],
)
def test_a_sweep_that_cannot_work_is_reported_before_anything_is_written(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run_sweep(sweep, replace(RunRequest(run_dir=tmp_path / "run"), **changed))
    assert not (tmp_path / "run").exists()


ONLY_LOCAL = {"tracking_uri", "embeddings_dtype"}
AS_JSON = {"changes", "rules", "prices"}
"""A pipeline's parameter is an object where a request has its JSON."""
AS_TEXT = {"protocols", "weights", "teacher_settings", "gate_rules"}
"""A pipeline's parameter is a text where a request has a path or several."""


@pytest.mark.parametrize("pipeline", [distil_and_evaluate, sweep, evaluate_only])
def test_the_defaults_are_the_pipeline_s(pipeline: Any) -> None:
    request = asdict(RunRequest(run_dir=Path("run")))
    for name, parameter in inspect.signature(pipeline.pipeline_func).parameters.items():
        if name in ONLY_LOCAL:
            continue
        value = request[name]
        if name in AS_TEXT:
            assert (not value, parameter.default) == (True, "")
        else:
            given = list(value) if isinstance(value, tuple) else json.loads(value) if name in AS_JSON else value
            assert (str(given) if name == "seed" else given) == parameter.default, name
