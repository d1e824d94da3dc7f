"""Attribute accuracy: how often the judge reads the caption's attributes from an image."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sidlsg.bundled.captions import ATTRIBUTES
from sidlsg.evaluate.distances import interval, share_interval
from sidlsg.runtime.errors import InputError


class AttributeCounts:
    """Counts of images and of attributes that were read correctly."""

    def __init__(self) -> None:
        self.count = 0
        self.correct = torch.zeros(len(ATTRIBUTES), dtype=torch.long)
        """By attribute."""
        self.all_correct = 0
        self.squares = 0
        """Sum over images of the squared number of correct attributes."""

    def update(self, right: Tensor) -> Self:
        """Add images: [N, 4] bool, whether each attribute was read correctly."""
        if right.dim() != 2 or right.shape[1] != len(ATTRIBUTES):
            raise InputError(f"answers of shape {list(right.shape)} given; there are {len(ATTRIBUTES)} an image")
        self.count += len(right)
        self.correct += right.sum(0).to(self.correct)
        self.all_correct += int(right.all(1).sum())
        self.squares += int(right.sum(1).square().sum())
        return self

    def shares(self) -> dict[str, float]:
        """`attributes`, the mean of the four; `all_attributes`, the share with all four correct; and each by name."""
        if self.count == 0:
            raise InputError("no image was judged, so there is no accuracy; add images first")
        each = {name: int(n) / self.count for name, n in zip(ATTRIBUTES, self.correct, strict=True)}
        mean = sum(each.values()) / len(each)
        return {"attributes": mean, "all_attributes": self.all_correct / self.count} | each

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of `attributes` and `all_attributes`, over other images of the same captions.

        That of `attributes` uses the standard error, since the four answers for an image are not independent trials; it
        has no width if all are correct. That of `all_attributes` is Wilson's.
        """
        if self.count < 2:
            raise InputError(f"an interval needs two images; {self.count} were judged")
        mean = int(self.correct.sum()) / self.count
        variance = max(0.0, self.squares - self.count * mean**2) / (self.count - 1)
        low, high = interval(mean, (variance / self.count) ** 0.5)
        return {
            "attributes": (max(0.0, low / len(ATTRIBUTES)), min(1.0, high / len(ATTRIBUTES))),
            "all_attributes": share_interval(self.all_correct, self.count),
        }
