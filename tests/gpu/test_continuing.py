"""The stage on a GPU: a run that goes on from a checkpoint ends as one that was never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.distil.student.generation import generate
from sidlsg.prompts.held_out import read_held_out
from sidlsg.stages.distil import distil
from sidlsg.storage.records import Student

pytestmark = pytest.mark.gpu


def student(folder: Path, name: str, prompts: Path, assets: Path, precision: str) -> tuple[Student, list[str]]:
    changes = {
        "iterations": 8, "batch": 16, "micro_batch": 16, "grids": 1, "checkpoint_every": 2, "keep_checkpoints": 4,
        "evaluate_every": 0, "on_alarm": "off", "precision": precision,
    }  # fmt: skip
    recipe, lines = recipe_with_changes("tiny", json.dumps(changes)), []
    made = distil(prompts, assets / "tiny-sd", folder / name, recipe, 0, folder / "checkpoints", lines.append)
    return made, lines


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_that_goes_on_gives_the_same_student(
    cuda: torch.device, tiny_prompts: Path, assets: Path, tmp_path: Path, precision: str
) -> None:
    whole, _ = student(tmp_path, "whole", tiny_prompts, assets, precision)
    for iteration in (6, 8):
        shutil.rmtree(tmp_path / "checkpoints" / f"{iteration:09d}")
    again, lines = student(tmp_path, "again", tiny_prompts, assets, precision)
    assert any("iteration 4 of 8" in line for line in lines)
    assert torch.cuda.get_device_name(cuda) in whole.hardware
    one, other = (
        load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors") for name in ("whole", "again")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.images_seen == whole.images_seen


@pytest.mark.usefixtures("cuda")
def test_a_student_draws_there(tiny_prompts: Path, assets: Path, tmp_path: Path) -> None:
    student(tmp_path, "student", tiny_prompts, assets, "bf16")
    prompts = read_held_out(assets / "prompts" / "held_out.txt")[:4]
    pictures = generate(tmp_path / "student", prompts, seeds=range(4))
    assert pictures.shape == (4, 32, 32, 3)
    assert pictures.std() > 10
