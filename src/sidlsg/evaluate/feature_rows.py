"""What was read off each image, in the images' order whichever came first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sidlsg.errors import InputError


class FeatureRows:
    """The features of a set's images, which one process brings in any order."""

    def __init__(self, width: int) -> None:
        """Args:
        width: how many numbers an image has.
        """
        self.width = width
        self.features: list[Tensor] = []
        self.places: list[Tensor] = []

    def update(self, features: Tensor, places: Sequence[int]) -> None:
        """Add [N, width] features of the images at N places.

        Raises:
            InputError: the shapes do not fit.
        """
        if features.shape != (len(places), self.width):
            raise InputError(f"features of shape {list(features.shape)} given for {len(places)} × {self.width}")
        self.features.append(features.detach())
        self.places.append(torch.tensor(list(places), dtype=torch.long))

    def compute(self) -> Tensor:
        """[N, width], row i of image i.

        Raises:
            InputError: no image was added, or there is not exactly one at each place.
        """
        if not any(len(part) for part in self.features):
            raise InputError("there are no features of any image; add images first")
        features, places = torch.cat(self.features), torch.cat(self.places)
        order = places.argsort()
        if not torch.equal(places[order], torch.arange(len(places))):
            raise InputError(f"features of {len(places)} images are not of the places from 0 on, each once")
        sorted_: Tensor = features[order]
        return sorted_
