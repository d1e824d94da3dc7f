"""Feature statistics that add up exactly, and the Fréchet distance between two of them."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sidlsg.errors import InputError


class FeatureStatistics:
    """Count, sum and outer-product sum of features, in float64.

    Parts that saw different images merge to what one that saw them all would hold.
    """

    def __init__(self, dim: int) -> None:
        """Args:
        dim: width of the features.
        """
        self.dim = dim
        self.count = 0
        self.sum = torch.zeros(dim, dtype=torch.float64)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, features: Tensor) -> Self:
        """Add [N, dim] features.

        Raises:
            InputError: the shape is another, or a feature is not finite.
        """
        if features.dim() != 2 or features.shape[1] != self.dim:
            raise InputError(f"features have shape {list(features.shape)}; expected [N, {self.dim}]")
        features = features.detach().to(self.sum)
        if not bool(torch.isfinite(features).all()):
            raise InputError("features hold NaN or infinity; look at the images and at the feature network")
        self.count += len(features)
        self.sum += features.sum(0)
        self.outer += features.T @ features
        return self

    def merge(self, other: FeatureStatistics) -> Self:
        """Add what another one saw.

        Raises:
            InputError: the widths differ.
        """
        if other.dim != self.dim:
            raise InputError(f"statistics of width {other.dim} do not merge into width {self.dim}")
        self.count += other.count
        self.sum += other.sum
        self.outer += other.outer
        return self

    @property
    def mean(self) -> Tensor:
        """[dim] float64.

        Raises:
            InputError: no feature was added.
        """
        if self.count == 0:
            raise InputError("statistics of no image at all have no mean")
        return self.sum / self.count

    def cov(self, ddof: int = 1) -> Tensor:
        """[dim, dim] float64 covariance, divided by count - ddof.

        Raises:
            InputError: too few features were added.
        """
        if self.count <= ddof:
            raise InputError(f"a covariance with ddof = {ddof} needs more than {ddof} images; there are {self.count}")
        mean = self.mean
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - ddof)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|μ1 - μ2|² + tr(S1 + S2 - 2 (S1 S2)^½), covariances with ddof = 1.

    The trace of the root is Σ sqrt(eigvalsh(S1^½ S2 S1^½)): symmetric matrices alone, so it is fast and never
    complex; eigenvalues that rounding made negative count as 0.

    Raises:
        InputError: the widths differ, or one of them saw fewer than two images.
    """
    if a.dim != b.dim:
        raise InputError(f"features of widths {a.dim} and {b.dim} have no distance; use the same network for both")
    s1, s2 = a.cov(), b.cov()
    values, vectors = torch.linalg.eigh(s1)
    root1 = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root1 @ s2 @ root1
    root_trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + s1.trace() + s2.trace() - 2 * root_trace
    return max(0.0, float(distance))
