"""What the shapes domain's networks read off a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sidlsg.bundled.captions import ATTRIBUTES, Caption
from sidlsg.bundled.judge import FEATURE_WIDTH, Judge
from sidlsg.evaluate import NUMERICS
from sidlsg.evaluate.efficientnet import INPUT_SIZE, PROJECTED_WIDTH, PROJECTION_SEED, EfficientNetFeatures
from sidlsg.teacher.images import Images, pixels_of

BATCH = 128
"""Images that go through a network at once."""


@dataclass(frozen=True)
class JudgeMeasure:
    """The judge's features, and what it says of each attribute that the caption names."""

    judge: Judge
    judge_sha256: str
    name = "judge"
    width = FEATURE_WIDTH + 2 * len(ATTRIBUTES)

    @property
    def identity(self) -> str:
        """The version and the network."""
        return f"{NUMERICS[self.name]} {self.judge_sha256}"

    @torch.no_grad()
    def __call__(self, pictures: Images, prompts: Sequence[str]) -> Tensor:
        """[N, width]: see `JudgeColumns`."""
        labels = torch.tensor([Caption.parse(text).labels for text in prompts])
        parts = []
        for part, wanted in zip(torch.split(pixels_of(pictures), BATCH), torch.split(labels, BATCH), strict=True):
            features = self.judge.features(part)
            sure, right = [], []
            for number, logits in enumerate(self.judge.logits(features).values()):
                sure.append(logits.log_softmax(1).gather(1, wanted[:, number : number + 1]))
                right.append((logits.argmax(1) == wanted[:, number])[:, None].float())
            parts.append(torch.cat([features, *sure, *right], 1))
        return torch.cat(parts)


@dataclass(frozen=True)
class JudgeColumns:
    """The columns of what `JudgeMeasure` gives."""

    values: Tensor
    """[N, width]."""

    @property
    def features(self) -> Tensor:
        """[N, 64]."""
        return self.values[:, :FEATURE_WIDTH]

    @property
    def log_probability(self) -> Tensor:
        """[N] of the caption's attributes: the mean of the four."""
        return self.values[:, FEATURE_WIDTH : FEATURE_WIDTH + len(ATTRIBUTES)].mean(1)

    @property
    def right(self) -> Tensor:
        """[N, 4] bool: whether each attribute was read as the caption has it."""
        return self.values[:, FEATURE_WIDTH + len(ATTRIBUTES) :] > 0.5


@dataclass(frozen=True)
class Seen:
    """EfficientNet-Lite0's projected features."""

    network: EfficientNetFeatures
    name = "efficientnet"
    width = PROJECTED_WIDTH

    @property
    def identity(self) -> str:
        """The version, the network, the size that it sees, and the projection."""
        return f"{NUMERICS[self.name]} {self.network.weights_sha256} {INPUT_SIZE} {PROJECTION_SEED}"

    def __call__(self, pictures: Images, prompts: Sequence[str]) -> Tensor:
        """[N, width]; the prompts are not read."""
        del prompts
        return torch.cat([self.network(part) for part in torch.split(pixels_of(pictures), BATCH)])
