"""The `distil` stage: what the generator starts from, and which edits of the code continue a stopped run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sidlsg import distil
from sidlsg.distil import run_identity
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.runtime.errors import InputError, StoppedError
from sidlsg.runtime.provenance import code_digest
from sidlsg.stages import distil as stage
from sidlsg.stages.distil_inputs import starting_network
from sidlsg.storage.uri import PIN
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.pipeline import load_pipeline, load_teacher
from unit.edited import comment, edited
from unit.stages.stopping import StopSoon


@pytest.mark.parametrize("pinned", [True, False])
def test_a_student_is_hashed_once(assets: Path, tiny_student: Path, hashed: list[str], pinned: bool) -> None:
    teacher, sha256 = load_teacher(assets / "tiny-sd"), folder_digest(tiny_student)
    hashed.clear()
    unet, found = starting_network(f"{tiny_student}{PIN}{sha256}" if pinned else str(tiny_student), teacher)
    assert found == sha256
    assert hashed.count(str(tiny_student / "unet" / "diffusion_pytorch_model.safetensors")) == 1
    assert unet is not None
    assert torch.equal(unet.conv_in.weight, load_pipeline(tiny_student).unet.conv_in.weight)


def test_without_a_uri_it_is_the_teacher(assets: Path, tiny_student: Path) -> None:
    teacher = load_teacher(assets / "tiny-sd")
    assert starting_network("", teacher) == (None, "")
    with pytest.raises(InputError, match="has SHA-256"):
        starting_network(f"{tiny_student}{PIN}{'0' * 64}", teacher)


CHANGES = json.dumps(
    {"iterations": 2, "batch": 2, "micro_batch": 2, "grids": 0, "log_every": 1, "evaluate_every": 0, "on_alarm": "off"}
)


def test_an_edited_comment_continues_a_run(
    tiny_student: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = (tiny_student.parent / "prompts", assets / "tiny-sd", tmp_path / "student")
    lines: list[str] = []
    digest_before = code_digest()
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(stage, "StopRequest", StopSoon)
        stage.distil(*inputs, recipe_with_changes("tiny", CHANGES), 0, tmp_path / "checkpoints", lines.append)

    with edited(tmp_path / "comment", {"distil/step.py": comment, "teacher/pipeline.py": comment}):
        from sidlsg.distil.recipes import recipe_with_changes as recipe
        from sidlsg.runtime.provenance import code_digest as new_digest
        from sidlsg.stages.distil import distil as new_distil

        student = new_distil(*inputs, recipe("tiny", CHANGES), 0, tmp_path / "checkpoints", lines.append)
        assert student.package_sha256 == new_digest() != digest_before
    (line,) = [line for line in lines if line.startswith("continues from ")]
    assert line.endswith("iteration 1 of 2, 2 images seen")
    assert student.images_seen == 4


def test_a_raised_version_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_with_changes("tiny", CHANGES)
    before = run_identity.run_identity(recipe, "1" * 64, "2" * 64, 0)
    assert before.parts["code"] == distil.NUMERICS
    monkeypatch.setattr(run_identity, "NUMERICS", "2")
    raised = run_identity.run_identity(recipe, "1" * 64, "2" * 64, 0)
    assert raised.differences(before) == [f"code is 2 here and {distil.NUMERICS[:12]}… there"]
    assert run_identity.run_name(recipe, raised) != run_identity.run_name(recipe, before)
