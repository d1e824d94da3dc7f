"""The stock sampler: image i depends on its caption and its seed i alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from sidlsg.runtime.errors import SidlsgError
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting

PROMPTS = [
    "a small red circle on a blue background",
    "a large white ring on a black background",
    "a small green cross on a yellow background",
]


@pytest.fixture(scope="module")
def sampler(assets: Path) -> StockSampler:
    return StockSampler(assets / "tiny-sd")


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for rounding to 8 bits, where float32 sums ran in another order."""
    return bool(np.abs(a.astype(int) - b.astype(int)).max() <= 1)


def test_an_image_is_the_same_at_any_position_in_a_batch(sampler: StockSampler) -> None:
    whole = sampler(PROMPTS, range(3), Setting(steps=2, guidance_scale=1.0))
    assert whole.shape == (3, 32, 32, 3)
    assert (sampler.image_size, sampler.batch) == (32, 64)
    assert whole.dtype == np.uint8
    chosen = sampler([PROMPTS[2], PROMPTS[0]], [2, 0], Setting(steps=2, guidance_scale=1.0))
    assert close(chosen, whole[[2, 0]])


def test_the_batch_size_does_not_change_images(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 and not to the bit: libraries choose their kernels by the batch's shape, and those round unlike."""
    sampler = StockSampler(tiny_student)
    prompts, setting = [PROMPTS[i % 3] for i in range(33)], Setting(steps=1, guidance_scale=0.0)
    whole = sampler.pixels(prompts, range(33), setting)
    for batch in (1, 7, 32):
        monkeypatch.setattr(StockSampler, "batch", batch)
        # A student's: one step of the teacher begins at pure noise, and would make ten times as much of the rounding.
        assert np.abs(sampler.pixels(prompts, range(33), setting) - whole).max() < 1e-5


def test_image_i_is_that_of_diffusers_with_seed_i(sampler: StockSampler, assets: Path) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(assets / "tiny-sd", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPTS[1],
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).images
    found = sampler([PROMPTS[1]], [1], Setting(steps=2, guidance_scale=3.0))
    assert close(found, (expected * 255).round().astype(np.uint8))
    # Guidance reaches the pipeline.
    assert not np.array_equal(found, sampler([PROMPTS[1]], [1], Setting(steps=2, guidance_scale=1.0)))


def test_images_are_sampled_without_tf32(sampler: StockSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    sampler.pipeline.unet.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    sampler(PROMPTS[:1], [0], Setting(steps=1, guidance_scale=0.0))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


def test_an_image_that_is_not_finite_is_an_error_and_not_a_black_image(
    sampler: StockSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = SimpleNamespace(images=np.full((1, 32, 32, 3), np.nan, np.float32))
    monkeypatch.setattr(type(sampler.pipeline), "__call__", lambda *_, **__: spoilt)
    with pytest.raises(SidlsgError, match="images that are not finite at 20 steps"):
        sampler(["a"], [0], Setting(steps=20, guidance_scale=0))
