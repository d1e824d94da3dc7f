"""The loop on a small teacher: stopping and going on, schedules and marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.loop import grid_marks, learning_rate_factor, train
from sidlsg.distil.state import TrainingState
from sidlsg.recipes.recipe import Recipe
from sidlsg.teach.networks import new_scheduler, new_vae
from sidlsg.teacher.load import Teacher
from sidlsg.teacher.schedule import NoiseSchedule

PROMPTS = ["a small red circle on a blue background", "a large green cross on a white background"]
RECIPE = Recipe(
    name="test",
    scales={"kappa": 1.5},
    iterations=40,
    batch=2,
    micro_batch=2,
    lr=1e-4,
    fake_score_lr=1e-4,
    lr_schedule="cosine",
    log_every=5,
    checkpoint_every=5,
    grids=2,
)


class Encode:
    """Text states by prompt, without a text encoder."""

    uncond = torch.zeros(1, 3, 8)

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        rows = [
            torch.randn(3, 8, generator=torch.Generator().manual_seed(len(p))) if p else self.uncond[0] for p in prompts
        ]
        return torch.stack(rows)


@pytest.fixture
def teacher(make_unet: Callable[..., Any]) -> Teacher:
    """A small teacher of real networks on 4×4 latents."""
    torch.manual_seed(0)
    return Teacher(
        folder=Path("unused"),
        sha256="0" * 64,
        unet=make_unet(0, torch.float32).requires_grad_(False).to(memory_format=torch.channels_last),
        vae=new_vae(),
        encode=Encode(),
        scheduler=None,
        schedule=NoiseSchedule.from_scheduler(new_scheduler()),
    )


class KilledError(Exception):
    pass


class DyingCheckpoints(Checkpoints):
    """Ends the run after the checkpoint of iteration 20, as a killed process would."""

    def save(self, state: TrainingState) -> Path:
        path = super().save(state)
        if state.iteration == 20:
            raise KilledError
        return path


def test_a_stopped_run_continues_to_bit_identical_weights(teacher: Teacher, tmp_path: Path) -> None:
    lines: list[str] = []
    whole = train(RECIPE, teacher, PROMPTS, 0, tmp_path / "a", Checkpoints(tmp_path / "a", "k", print), lines.append)
    assert lines == []
    with pytest.raises(KilledError):
        train(RECIPE, teacher, PROMPTS, 0, tmp_path / "b", DyingCheckpoints(tmp_path / "b", "k", print), lines.append)
    again = train(RECIPE, teacher, PROMPTS, 0, tmp_path / "b", Checkpoints(tmp_path / "b", "k", print), lines.append)
    assert len(lines) == 1
    assert "iteration 20 of 40, 40 images seen" in lines[0]

    tensors, others = whole.tensors(), again.tensors()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    start = dict(teacher.unet.named_parameters())
    moved = [float((p - start[name]).detach().abs().max()) for name, p in again.generator.named_parameters()]
    assert max(moved) > 1e-4
    assert [row["iteration"] for row in again.log] == [5, 10, 15, 20, 25, 30, 35, 40]
    for field in ("fake_score_loss", "generator_loss", "learning_rate"):
        assert [row[field] for row in whole.log] == [row[field] for row in again.log]
    grids = sorted(p.name for p in (tmp_path / "b" / "grids").iterdir())
    assert grids == ["000000000.png", "000000020.png", "000000080.png"]
    assert all((tmp_path / "a/grids" / g).read_bytes() == (tmp_path / "b/grids" / g).read_bytes() for g in grids)
    json.dumps(again.log)


def test_learning_rates() -> None:
    cosine = RECIPE.__class__(**{**RECIPE.values(), "warmup": 4, "lr_floor": 0.1})
    assert [learning_rate_factor(cosine, i) for i in (0, 1, 3)] == [0.25, 0.5, 1.0]
    assert learning_rate_factor(cosine, 4) == 1.0
    assert learning_rate_factor(cosine, 22) == pytest.approx(0.55)
    constant = RECIPE.__class__(**{**RECIPE.values(), "lr_schedule": "constant"})
    assert learning_rate_factor(constant, 39) == 1.0


def test_grids_are_closer_together_at_the_start() -> None:
    assert grid_marks(RECIPE) == {0, 10, 40}
    assert grid_marks(RECIPE.__class__(**{**RECIPE.values(), "grids": 0})) == set()
