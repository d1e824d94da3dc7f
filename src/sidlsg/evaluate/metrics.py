"""Measures as a torchmetrics metric, which syncs them between ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sidlsg.runtime.errors import InputError


class FeatureMemory(Metric):
    """The measures of each image, which ranks and blocks may add in any order with the images' indices in the set."""

    is_differentiable = False
    full_state_update = False
    features: list[Tensor]
    indices: list[Tensor]

    def __init__(self, width: int) -> None:
        """Start without images, for `width` numbers per image."""
        super().__init__()
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("indices", [], dist_reduce_fx="cat")
        self._width = width

    def update(self, features: Tensor, indices: Sequence[int]) -> None:
        """Add [N, width] features of the images at N indices."""
        if features.shape != (len(indices), self._width):
            raise InputError(f"features of shape {list(features.shape)} given for {len(indices)} × {self._width}")
        self.features.append(features.detach())
        self.indices.append(torch.tensor(list(indices), dtype=torch.long))

    def compute(self) -> Tensor:
        """[N, width], row i of image i.

        Raises:
            InputError: no image was added, or an index is missing or repeated.
        """
        if not any(len(part) for part in self.features):
            raise InputError("no features were added; add images first")
        # After a sync each is one tensor, not a list.
        features, indices = dim_zero_cat(self.features), dim_zero_cat(self.indices)
        order = indices.argsort()
        if not torch.equal(indices[order], torch.arange(len(indices), device=indices.device)):
            raise InputError(f"features of {len(indices)} images do not have the indices from 0 on, each once")
        sorted_: Tensor = features[order]
        return sorted_
