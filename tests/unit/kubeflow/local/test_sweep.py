import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidlsg.kubeflow.local.runs import run_sweep, sweep_arguments
from sidlsg.pipelines.sweep import sweep
from sidlsg.runtime.errors import InputError
from sidlsg.stages.requests import RunRequest


def test_settings_are_given_as_records_have_them(tmp_path: Path) -> None:
    request = RunRequest(run_dir=tmp_path / "run", settings=(" none", "lsg  kappa=2.0"), recipe="sd15")
    arguments = sweep_arguments(request, tmp_path / "run")
    assert arguments["settings"] == ["none", "lsg kappa=2"]
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
    ("changed", "told"),
    [
        ({"settings": ()}, "without settings"),
        ({"settings": ("lsg",)}, "setting 'lsg': strategy 'lsg' needs kappa"),
        ({"settings": ("none", "lsg kappa=1")}, "mean the same"),
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
def test_what_cannot_work_is_told_before_anything_is_written(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        run_sweep(sweep, replace(RunRequest(run_dir=tmp_path / "run"), **changed))
    assert not (tmp_path / "run").exists()
