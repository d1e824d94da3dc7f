"""The stock sampler: picture i depends on its caption and its seed i alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from sidlsg.evaluate.sample import StockSampler

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


def test_places_of_the_full_set_are_drawn_as_they_are_there(sampler: StockSampler) -> None:
    whole = sampler(PROMPTS, 2, 1.0, "test")
    assert whole.shape == (3, 32, 32, 3)
    assert sampler.image_size == 32
    assert whole.dtype == np.uint8
    assert close(sampler.at(PROMPTS, [2, 0], 2, 1.0, "test"), whole[[2, 0]])


def test_batches_do_not_change_pictures(sampler: StockSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sampler(PROMPTS, 1, 1.0, "test")
    monkeypatch.setattr("sidlsg.evaluate.sample.BATCH", 2)
    assert close(sampler(PROMPTS, 1, 1.0, "test"), whole)


def test_picture_i_is_that_of_diffusers_with_seed_i(sampler: StockSampler, assets: Path) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(assets / "tiny-sd", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPTS[1],
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).images
    found = sampler.at(PROMPTS, [1], 2, 3.0, "test")
    assert close(found, (expected * 255).round().astype(np.uint8))
    # Guidance reaches the pipeline.
    assert not np.array_equal(found, sampler.at(PROMPTS, [1], 2, 1.0, "test"))
