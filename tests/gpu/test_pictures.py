"""Pictures and scores on a GPU: whatever the batch, and beside the CPU's from the same noises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.protocols import load_domain_protocols
from sidlsg.prompts.held_out import read_held_out
from sidlsg.teacher import sampling as sample
from sidlsg.teacher.images import Images
from sidlsg.teacher.sampling import StockSampler, seeded_noise
from sidlsg.teacher.setting import Setting

pytestmark = pytest.mark.gpu
FEW_STEPS = Setting(steps=4, guidance_scale=0.0)
SCORED = 504
TOLERANCE = {"fid_judge": 0.1, "fid_efficientnet": 0.1, "attributes": 0.001, "all_attributes": 0.003}
"""Of a score on the GPU, against the CPU's from the same noises."""


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noises of the CPU on every device, which draw other numbers else."""

    def on_cpu(seeds: Any, shape: Any, steps: int = 1, device: Any = "cpu") -> torch.Tensor:
        return seeded_noise(seeds, shape, steps).to(device)

    monkeypatch.setattr(sample, "seeded_noise", on_cpu)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, assets: Path) -> Callable[..., Images]:
    """Pictures of the bundled teacher, so many at once."""

    def draw(device: torch.device, count: int, at_once: int = 64, steps: Setting = FEW_STEPS) -> Images:
        monkeypatch.setattr(sample, "PIXELS", at_once * 32 * 32)
        texts = read_held_out(assets / "prompts" / "held_out.txt")
        prompts = [texts[i % len(texts)] for i in range(count)]
        return StockSampler(assets / "tiny-sd", device)(prompts, range(count), steps)

    return draw


@pytest.mark.parametrize("at_once", [7, 32])
def test_a_picture_does_not_depend_on_the_batch(cuda: torch.device, drawn: Callable[..., Images], at_once: int) -> None:
    alone, together = drawn(cuda, 32, 1).astype(int), drawn(cuda, 32, at_once).astype(int)
    off = abs(alone - together)
    print(f"{at_once} at once: {(off > 0).mean():.2%} of the values differ, by {off.max()} at most")
    assert off.max() <= 1


@pytest.mark.usefixtures("same_noise")
def test_scores_are_the_cpus(cuda: torch.device, assets: Path, drawn: Callable[..., Images]) -> None:
    texts = read_held_out(assets / "prompts" / "held_out.txt")
    protocols = load_domain_protocols(SHAPES, texts, assets / "judge" / "judge.safetensors", SCORED)
    theirs, ours = drawn(torch.device("cpu"), SCORED), drawn(cuda, SCORED)
    expected, found = ({s.name: s.value for s in protocols.score(x, intervals=False)} for x in (theirs, ours))
    off = abs(theirs.astype(int) - ours)
    print(f"{(off > 0).mean():.2%} of the pictures' values differ, by {off.max()} at most")
    for name, tolerance in TOLERANCE.items():
        print(f"{name}: {found[name]:.4f} on the GPU, {expected[name]:.4f} on the CPU")
        assert found[name] == pytest.approx(expected[name], abs=tolerance)
