"""Measures of a bundled domain: the judge's reading and EfficientNet's features of each image, and accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.judge import FEATURE_WIDTH, Judge
from sidlsg.evaluate import NUMERICS
from sidlsg.evaluate.distances import interval, share_interval
from sidlsg.evaluate.networks import INPUT_SIZE, PROJECTED_WIDTH, PROJECTION_SEED, EfficientNetFeatures
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.images import Images, pixels_of

BATCH = 128
"""Images per batch."""


@dataclass(frozen=True)
class JudgeMeasure:
    """The judge's features, and its reading of each attribute of the caption."""

    judge: Judge
    judge_sha256: str
    name = "judge"

    @property
    def width(self) -> int:
        """Numbers per image."""
        return FEATURE_WIDTH + 2 * len(self.judge.domain.attributes)

    @property
    def identity(self) -> str:
        """Version and network."""
        return f"{NUMERICS[self.name]} {self.judge_sha256}"

    @torch.no_grad()
    def __call__(self, images: Images, prompts: Sequence[str]) -> Tensor:
        """[N, width], see `JudgeColumns`."""
        domain = self.judge.domain
        labels = torch.tensor([domain.parse(text).labels for text in prompts])
        parts = []
        for part, wanted in zip(torch.split(pixels_of(images), BATCH), torch.split(labels, BATCH), strict=True):
            features = self.judge.features(part)
            log_probabilities, read = [], []
            for number, logits in enumerate(self.judge.logits(features).values()):
                log_probabilities.append(logits.log_softmax(1).gather(1, wanted[:, number : number + 1]))
                read.append(logits.argmax(1))
            right = domain.right(torch.stack(read, 1), wanted)
            parts.append(torch.cat([features, *log_probabilities, right.float()], 1))
        return torch.cat(parts)


@dataclass(frozen=True)
class JudgeColumns:
    """The columns of `JudgeMeasure`."""

    values: Tensor
    """[N, width]."""
    domain: Domain

    @property
    def features(self) -> Tensor:
        """[N, 64]."""
        return self.values[:, :FEATURE_WIDTH]

    @property
    def log_probability(self) -> Tensor:
        """[N] mean over the caption's attributes."""
        return self.values[:, FEATURE_WIDTH : FEATURE_WIDTH + len(self.domain.attributes)].mean(1)

    @property
    def right(self) -> Tensor:
        """[N, attributes] bool: whether each attribute was read as in the caption."""
        return self.values[:, FEATURE_WIDTH + len(self.domain.attributes) :] > 0.5


def accuracies(right: Tensor, domain: Domain) -> dict[str, float]:
    """Shares of [N, attributes] answers, see `JudgeColumns.right`.

    `attributes` is the mean over all, `all_attributes` the share of images with all of them right; then each by name.
    """
    count = _count(right, domain, least=1)
    each = {name: int(n) / count for name, n in zip(domain.attributes, right.sum(0), strict=True)}
    return {"attributes": sum(each.values()) / len(each), "all_attributes": int(right.all(1).sum()) / count} | each


def accuracy_intervals(right: Tensor, domain: Domain) -> dict[str, tuple[float, float]]:
    """95 % intervals of `attributes` and `all_attributes`, over other images of the same captions.

    That of `attributes` uses the standard error, since the answers for an image are not independent trials; it
    has no width if all are correct. That of `all_attributes` is Wilson's.
    """
    count = _count(right, domain, least=2)
    mean, attributes = int(right.sum()) / count, len(domain.attributes)
    variance = max(0.0, int(right.sum(1).square().sum()) - count * mean**2) / (count - 1)
    low, high = interval(mean, (variance / count) ** 0.5)
    return {
        "attributes": (max(0.0, low / attributes), min(1.0, high / attributes)),
        "all_attributes": share_interval(int(right.all(1).sum()), count),
    }


def _count(right: Tensor, domain: Domain, least: int) -> int:
    if right.dim() != 2 or right.shape[1] != len(domain.attributes):
        raise InputError(f"answers of shape {list(right.shape)} given; there are {len(domain.attributes)} an image")
    if len(right) < least:
        raise InputError(f"answers for {len(right)} images given; an accuracy needs one, and an interval two")
    return len(right)


@dataclass(frozen=True)
class EfficientNetMeasure:
    """EfficientNet-Lite0's projected features."""

    network: EfficientNetFeatures
    name = "efficientnet"
    width = PROJECTED_WIDTH

    @property
    def identity(self) -> str:
        """Version, network, input size and projection."""
        return f"{NUMERICS[self.name]} {self.network.weights_sha256} {INPUT_SIZE} {PROJECTION_SEED}"

    def __call__(self, images: Images, prompts: Sequence[str]) -> Tensor:
        """[N, width]; prompts are ignored."""
        del prompts
        return torch.cat([self.network(part) for part in torch.split(pixels_of(images), BATCH)])
