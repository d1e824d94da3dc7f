"""The scores as torchmetrics metrics, so that ranks sync and shards merge by that library's code.

Where one process has all images, `FeatureStatistics` and `AttributeCounts` give the same numbers: torchmetrics brings
Matplotlib and scipy.signal, and takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sidlsg.runtime.errors import InputError


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
