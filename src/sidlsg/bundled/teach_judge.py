"""Trains the judge on shapes of its own, distorted a little so that it reads generated images as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from sidlsg.bundled.captions import ATTRIBUTES, all_captions
from sidlsg.bundled.data import batch_of
from sidlsg.bundled.judge import Judge
from sidlsg.bundled.recipe import TeachRecipe
from sidlsg.bundled.training import Log, fit
from sidlsg.runtime.randomness import counted


def train_judge(recipe: TeachRecipe, work: Path, report: Callable[[str], None]) -> tuple[Judge, Log]:
    """Train the judge on every caption of the domain, the held-out ones too: it must read them to score them."""
    torch.manual_seed(recipe.seed + 2)
    judge = Judge().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    captions = all_captions()
    batch = recipe.judge.batch

    def loss_at(iteration: int) -> torch.Tensor:
        chosen, pixels = batch_of(captions, recipe.seed, "judge", iteration, batch)
        draws = counted(recipe.seed, "judge/noise", iteration)
        # Half of the samples carry noise and some blur, as a decoder's output may.
        noise = torch.from_numpy(draws.standard_normal(pixels.shape, dtype="float32"))
        strength = torch.from_numpy(0.15 * draws.random((batch, 1, 1, 1)).astype("float32"))
        blurred = nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
        share = torch.from_numpy(0.7 * draws.random((batch, 1, 1, 1)).astype("float32"))
        distorted = torch.lerp(pixels, blurred, share) + strength * noise
        clean = torch.from_numpy(draws.random((batch, 1, 1, 1)) < 0.5)
        logits = judge(torch.where(clean, pixels, distorted))
        labels = torch.tensor([c.labels for c in chosen])
        losses = [nn.functional.cross_entropy(logits[name], labels[:, i]) for i, name in enumerate(ATTRIBUTES)]
        return torch.stack(losses).sum()

    log = fit("judge", judge, loss_at, recipe.judge, work / "judge.safetensors", report)
    return judge, log
