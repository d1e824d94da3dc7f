"""The imagined iteration against real ones, whose memory PyTorch's profiler counts by its own means."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from sidlsg.distil.draws import DrawPlan
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import Method, train_step
from sidlsg.estimate.imagined import imagined_unet, imagining
from sidlsg.estimate.iteration import ImaginedIteration, measure
from sidlsg.estimate.memory import Network, Use
from sidlsg.estimate.tracker import Tracker
from sidlsg.recipes.recipe import Recipe, get_recipe
from sidlsg.teacher.architectures import ARCHITECTURES
from sidlsg.teacher.schedule import NoiseSchedule


def tiny_config(assets: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((assets / "tiny-sd" / "unet" / "config.json").read_text())
    return config


def schedule(prediction_type: str = "epsilon") -> NoiseSchedule:
    return NoiseSchedule(torch.linspace(0.999, 0.005, 1000, dtype=torch.float64), prediction_type)


def texts(width: int) -> Any:
    def encode(_: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(replaced), 77, width), torch.zeros(1, 77, width)

    return encode


def plan(batch: int, size: int) -> DrawPlan:
    return DrawPlan(seed=0, batch=batch, prompt_count=batch, latent_shape=(4, size, size), prompt_dropout=0.1)


def real_peak(config: dict[str, Any], recipe: Recipe) -> int:
    """Bytes at the peak of a real iteration: every tensor that is there before, and the allocator's events after."""
    before = live_bytes()
    teacher = UNet2DConditionModel.from_config(config).eval()
    state = TrainingState.start(teacher, 1e-4, 1e-4, settings=recipe.settings)
    method = Method(teacher=state.frozen(teacher), schedule=schedule(), guidance=recipe.guidance)
    draws = plan(recipe.batch, config["sample_size"])
    encode = texts(config["cross_attention_dim"])

    def iterate() -> None:
        train_step(state, method, draws, encode, recipe.micro_batch, recipe.ema_half_life)

    iterate()  # the first one fills caches
    gc.collect()
    standing = live_bytes() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        iterate()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return standing + highest


def live_bytes() -> int:
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if isinstance(item, Tensor) and type(item) in (Tensor, torch.nn.Parameter):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize(
    ("batch", "micro_batch", "checkpointing"), [(16, 16, False), (16, 16, True), (64, 64, False), (64, 16, False)]
)
def test_the_estimate_of_tiny_is_within_a_tenth_of_what_is_there(
    assets: Path, batch: int, micro_batch: int, checkpointing: bool
) -> None:
    recipe = dataclasses.replace(
        get_recipe("tiny"), batch=batch, micro_batch=micro_batch, activation_checkpointing=checkpointing
    )
    config = tiny_config(assets)
    passes = measure(config, recipe, recipe.settings, again=batch > micro_batch, gpu=False)
    use = Use(network=Network.of(config), settings=recipe.settings, gpu=False)
    estimated = sum(use.at(passes, micro_batch).values())
    assert estimated == pytest.approx(real_peak(config, recipe), rel=0.1)
