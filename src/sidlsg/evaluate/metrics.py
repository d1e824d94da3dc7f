"""The scores as torchmetrics metrics, so that ranks sync and shards merge by that library's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sidlsg.errors import InputError
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.uncertainty import interval, share_interval
from sidlsg.shapes.captions import ATTRIBUTES


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
        features, places = dim_zero_cat(self.features), dim_zero_cat(self.places)
        order = places.argsort()
        if not torch.equal(places[order], torch.arange(len(places))):
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
    """Sum over images of the squared number of attributes that were right."""

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
        """Add images: [N, 4] bool, whether each attribute was read as the caption has it.

        Raises:
            InputError: the shape is another.
        """
        if right.dim() != 2 or right.shape[1] != len(ATTRIBUTES):
            raise InputError(f"answers of shape {list(right.shape)} given; there are {len(ATTRIBUTES)} an image")
        self.count += len(right)
        self.correct += right.sum(0)
        self.all_correct += right.all(1).sum()
        self.squares += right.sum(1).square().sum()

    def compute(self) -> dict[str, float]:
        """`attributes`: the mean of the four; `all_attributes`: the share with all four right; and each by name.

        Raises:
            InputError: no image was added.
        """
        count = int(self.count)
        if count == 0:
            raise InputError("no image at all was judged, so there is no accuracy; add images first")
        each = {name: int(n) / count for name, n in zip(ATTRIBUTES, self.correct, strict=True)}
        mean = sum(each.values()) / len(each)
        return {"attributes": mean, "all_attributes": int(self.all_correct) / count} | each

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of `attributes` and `all_attributes`, over other images of the same captions.

        That of `attributes` is the standard error's, as an image's four answers are not independent trials; where all
        are right it has no width, and that of `all_attributes`, Wilson's, says how sure it is.

        Raises:
            InputError: fewer than two images were added.
        """
        count = int(self.count)
        if count < 2:
            raise InputError(f"an interval needs two images; {count} were judged")
        mean = int(self.correct.sum()) / count
        variance = max(0.0, int(self.squares) - count * mean**2) / (count - 1)
        low, high = interval(mean, (variance / count) ** 0.5)
        return {
            "attributes": (max(0.0, low / len(ATTRIBUTES)), min(1.0, high / len(ATTRIBUTES))),
            "all_attributes": share_interval(int(self.all_correct), count),
        }
