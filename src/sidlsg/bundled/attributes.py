"""Attribute accuracy: how often the judge reads from an image what its caption says, as counts that add up."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sidlsg.bundled.captions import ATTRIBUTES
from sidlsg.evaluate.distances import interval, share_interval
from sidlsg.runtime.errors import InputError


class AttributeCounts:
    """How many images there are, and how many attributes of them were read right."""

    def __init__(self) -> None:
        self.count = 0
        self.correct = torch.zeros(len(ATTRIBUTES), dtype=torch.long)
        """Of each attribute."""
        self.all_correct = 0
        self.squares = 0
        """Sum over images of the squared number of attributes that were right."""

    def update(self, right: Tensor) -> Self:
        """Add images: [N, 4] bool, whether each attribute was read as the caption has it.

        Raises:
            InputError: the shape is another.
        """
        if right.dim() != 2 or right.shape[1] != len(ATTRIBUTES):
            raise InputError(f"answers of shape {list(right.shape)} given; there are {len(ATTRIBUTES)} an image")
        self.count += len(right)
        self.correct += right.sum(0).to(self.correct)
        self.all_correct += int(right.all(1).sum())
        self.squares += int(right.sum(1).square().sum())
        return self

    def shares(self) -> dict[str, float]:
        """`attributes`: the mean of the four; `all_attributes`: the share with all four right; and each by name.

        Raises:
            InputError: no image was added.
        """
        if self.count == 0:
            raise InputError("no image at all was judged, so there is no accuracy; add images first")
        each = {name: int(n) / self.count for name, n in zip(ATTRIBUTES, self.correct, strict=True)}
        mean = sum(each.values()) / len(each)
        return {"attributes": mean, "all_attributes": self.all_correct / self.count} | each

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of `attributes` and `all_attributes`, over other images of the same captions.

        That of `attributes` is the standard error's, as an image's four answers are not independent trials; where all
        are right it has no width, and that of `all_attributes`, Wilson's, says how sure it is.

        Raises:
            InputError: fewer than two images were added.
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
