"""The judge of a domain: a classifier of its attributes, whose features give a Fréchet distance."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.training import Log, TeachRecipe, fit
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted
from sidlsg.storage.tensors import first_not_finite, load_tensors

FEATURE_WIDTH = 64
LAST_SIZE = 4
"""Height and width after the last block, each of which halves them."""


class Judge(nn.Module):
    """A small convolutional classifier of [N, 3, H, W] pixels in [-1, 1], with one head per attribute."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain

        def block(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
                nn.GroupNorm(8, outputs),
                nn.SiLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1),
                nn.GroupNorm(8, outputs),
                nn.SiLU(),
            )

        widths = [3, 32, 64, 128]
        while domain.image_size > LAST_SIZE * 2 ** (len(widths) - 1):
            widths.append(widths[-1])
        self.body = nn.Sequential(*(block(*each) for each in itertools.pairwise(widths)), nn.Flatten())
        self.penultimate = nn.Sequential(nn.Linear(widths[-1] * LAST_SIZE**2, FEATURE_WIDTH), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURE_WIDTH, len(v)) for name, v in domain.attributes.items()})

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """[N, 64] penultimate features."""
        features: torch.Tensor = self.penultimate(self.body(pixels))
        return features

    def logits(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """[N, values] logits by attribute."""
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The logits of pixels."""
        return self.logits(self.features(pixels))


def load_judge(path: Path, domain: Domain) -> Judge:
    """Load a domain's judge for scoring; raises InputError for a damaged file, another network, NaN or infinity."""
    tensors, _ = load_tensors(path)
    judge = Judge(domain)
    try:
        judge.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(
            f"{path} holds another network than the judge of {domain.name}; give a file made by `sidlsg teach`"
        ) from error
    if name := first_not_finite(judge.state_dict()):
        raise InputError(f"{path}: tensor {name} holds NaN or infinity; give a file made by `sidlsg teach`")
    return judge.eval().requires_grad_(False)


def train_judge(domain: Domain, recipe: TeachRecipe, work: Path, report: Callable[[str], None]) -> tuple[Judge, Log]:
    """Train the judge on all captions of the domain, including the held-out ones that it will score."""
    torch.manual_seed(recipe.seed + 2)
    judge = Judge(domain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    captions = domain.all_captions()
    batch = recipe.judge.batch

    def loss_at(iteration: int) -> torch.Tensor:
        chosen, pixels = domain.batch(captions, recipe.seed, "judge", iteration, batch)
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
        losses = [nn.functional.cross_entropy(logits[name], labels[:, i]) for i, name in enumerate(domain.attributes)]
        return torch.stack(losses).sum()

    made_from = {"domain": domain.name, "seed": recipe.seed}
    log = fit("judge", judge, loss_at, recipe.judge, work / "judge.safetensors", report, made_from)
    return judge, log
