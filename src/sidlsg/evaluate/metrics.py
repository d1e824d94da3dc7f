"""The scores as torchmetrics metrics, so that ranks sync and shards merge by that library's code.

Where one process has all images, `FeatureStatistics` and `AttributeCounts` give the same numbers: torchmetrics brings
Matplotlib and scipy.signal, and takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sidlsg.bundled.captions import ATTRIBUTES
from sidlsg.evaluate.attributes import AttributeCounts
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.runtime.errors import InputError


class FrechetDistance(Metric):
    """Fréchet distance of generated images' features to fixed reference statistics."""

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    count: Tensor
    sum: Tensor
    outer: Tensor

    def __init__(self, reference: FeatureStatistics, **options: Any) -> None:
        """Args:
        reference: statistics of the reference images' features.
        options: of `torchmetrics.Metric`.
        """
        super().__init__(**options)
        self.reference = reference
        dim = reference.dim
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sum", torch.zeros(dim, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outer", torch.zeros(dim, dim, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Add [N, dim] features of images."""
        part = FeatureStatistics(self.reference.dim).update(features)
        self.count += part.count
        self.sum += part.sum.to(self.sum)
        self.outer += part.outer.to(self.outer)

    def compute(self) -> float:
        """The distance."""
        seen = FeatureStatistics(self.reference.dim)
        seen.count, seen.sum, seen.outer = int(self.count), self.sum.cpu(), self.outer.cpu()
        return frechet_distance(seen, self.reference)


class FeatureMemory(Metric):
    """What was read off each image, for scores that sums are not enough for: kernel distances, neighbours, resampling.

    Images are known by their places in the set, so that ranks and shards may bring them in any order.
    """

    is_differentiable = False
    full_state_update = False
    features: list[Tensor]
    places: list[Tensor]

    def __init__(self, width: int) -> None:
        """Args:
        width: how many numbers an image has.
        """
        super().__init__()
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("places", [], dist_reduce_fx="cat")
        self._width = width

    def update(self, features: Tensor, places: Sequence[int]) -> None:
        """Add [N, width] features of the images at N places.

        Raises:
            InputError: the shapes do not fit.
        """
        if features.shape != (len(places), self._width):
            raise InputError(f"features of shape {list(features.shape)} given for {len(places)} × {self._width}")
        self.features.append(features.detach())
        self.places.append(torch.tensor(list(places), dtype=torch.long))

    def compute(self) -> Tensor:
        """[N, width], row i of image i.

        Raises:
            InputError: no image was added, or there is not exactly one at each place.
        """
        if not any(len(part) for part in self.features):
            raise InputError("there are no features of any image; add images first")
        # After a sync each is one tensor, not a list.
        features, places = dim_zero_cat(self.features), dim_zero_cat(self.places)
        order = places.argsort()
        if not torch.equal(places[order], torch.arange(len(places), device=places.device)):
            raise InputError(f"features of {len(places)} images are not of the places from 0 on, each once")
        sorted_: Tensor = features[order]
        return sorted_


class AttributeAccuracy(Metric):
    """How often the judge reads from an image what its caption says."""

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    count: Tensor
    correct: Tensor
    all_correct: Tensor
    squares: Tensor

    def __init__(self, **options: Any) -> None:
        """Args:
        options: of `torchmetrics.Metric`.
        """
        super().__init__(**options)
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros(len(ATTRIBUTES), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("all_correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, right: Tensor) -> None:
        """Add images, see `AttributeCounts.update`."""
        part = AttributeCounts().update(right)
        self.count += part.count
        self.correct += part.correct.to(self.correct)
        self.all_correct += part.all_correct
        self.squares += part.squares

    def compute(self) -> dict[str, float]:
        """See `AttributeCounts.shares`."""
        return self._seen().shares()

    def intervals(self) -> dict[str, tuple[float, float]]:
        """See `AttributeCounts.intervals`."""
        return self._seen().intervals()

    def _seen(self) -> AttributeCounts:
        seen = AttributeCounts()
        seen.count, seen.correct = int(self.count), self.correct.cpu()
        seen.all_correct, seen.squares = int(self.all_correct), int(self.squares)
        return seen
