from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.state import TrainingState
from sidlsg.errors import InputError


@pytest.fixture
def state(make_unet: Callable[..., Any]) -> TrainingState:
    return TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3)


def take_a_step(state: TrainingState, seed: int) -> None:
    torch.manual_seed(seed)
    for optimizer, network in (
        (state.generator_optimizer, state.generator),
        (state.fake_score_optimizer, state.fake_score),
    ):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    state.iteration += 1
    state.images_seen += 4
    state.log.append({"iteration": state.iteration, "loss": 0.1 * seed})


def test_everything_comes_back(state: TrainingState, make_unet: Callable[..., Any], tmp_path: Path) -> None:
    take_a_step(state, 1)
    Checkpoints(tmp_path, "key", print).save(state)
    other = TrainingState.start(make_unet(9, torch.float32), 1e-3, 1e-3)
    assert Checkpoints(tmp_path, "key", print).load_latest(other) == tmp_path / "000000001.safetensors"
    # Not only the same tensors: the same next step, which the optimizers' states decide too.
    for each in (state, other):
        take_a_step(each, 2)
    assert state.counters() == other.counters()
    tensors, others = state.tensors(), other.tensors()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_there_is_nothing_to_load_at_first(state: TrainingState, tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "new", "key", print).load_latest(state) is None


def test_the_last_two_stay(state: TrainingState, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "key", print)
    for seed in range(4):
        take_a_step(state, seed)
        checkpoints.save(state)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["000000003.safetensors", "000000004.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no marker"])
def test_a_damaged_checkpoint_is_named_and_passed_over(state: TrainingState, tmp_path: Path, damage: str) -> None:
    lines: list[str] = []
    checkpoints = Checkpoints(tmp_path, "key", lines.append)
    for seed in range(2):
        take_a_step(state, seed)
        newest = checkpoints.save(state)
    content = newest.read_bytes()
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        newest.unlink()
    else:
        newest.with_suffix(".json").unlink()
    assert checkpoints.load_latest(state) == tmp_path / "000000001.safetensors"
    assert state.iteration == 1
    # A checkpoint without its marker was never finished: nothing to report.
    assert [newest.name in line for line in lines] == ([] if damage == "no marker" else [True])


def test_another_runs_checkpoints_are_refused(state: TrainingState, tmp_path: Path) -> None:
    take_a_step(state, 1)
    Checkpoints(tmp_path, "key", print).save(state)
    with pytest.raises(InputError, match="another recipe, teacher, prompt set or code"):
        Checkpoints(tmp_path, "other", print).load_latest(state)
