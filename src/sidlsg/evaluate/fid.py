"""Mergeable feature statistics, and the Fréchet distance between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError


class FeatureStatistics:
    """Count, sum and outer-product sum of features in float64, which merge exactly."""

    def __init__(self, dim: int) -> None:
        """Start without images, for features of width `dim`."""
        self.dim = dim
        self.count = 0
        self.sum = torch.zeros(dim, dtype=torch.float64)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, features: Tensor) -> Self:
        """Add [N, dim] features; raises InputError for another shape or a value that is not finite."""
        if features.dim() != 2 or features.shape[1] != self.dim:
            raise InputError(f"features have shape {list(features.shape)}; expected [N, {self.dim}]")
        features = features.detach().to(self.sum)
        if not bool(torch.isfinite(features).all()):
            raise InputError("features hold NaN or infinity; check the images and the feature network")
        self.count += len(features)
        self.sum += features.sum(0)
        self.outer += features.T @ features
        return self

    def merge(self, other: FeatureStatistics) -> Self:
        """Add the images of other statistics."""
        if other.dim != self.dim:
            raise InputError(f"statistics of width {other.dim} do not merge into width {self.dim}")
        self.count += other.count
        self.sum += other.sum
        self.outer += other.outer
        return self

    def without(self, part: FeatureStatistics) -> FeatureStatistics:
        """The statistics without the images of a part."""
        rest = FeatureStatistics(self.dim)
        rest.count, rest.sum, rest.outer = self.count - part.count, self.sum - part.sum, self.outer - part.outer
        return rest

    @property
    def mean(self) -> Tensor:
        """[dim] float64."""
        if self.count == 0:
            raise InputError("statistics of no image have no mean")
        return self.sum / self.count

    def cov(self, ddof: int = 1) -> Tensor:
        """[dim, dim] float64 covariance, divided by count - ddof; raises InputError for too few images."""
        if self.count <= ddof:
            raise InputError(f"a covariance with ddof = {ddof} needs more than {ddof} images; there are {self.count}")
        mean = self.mean
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - ddof)

    def gaussian(self, ddof: int = 1) -> Gaussian:
        """Mean and covariance, see `cov`."""
        cov = self.cov(ddof)
        return Gaussian(mean=self.mean, cov=cov, rank=min(self.dim, self.count - 1))


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Mean and covariance of features."""

    mean: Tensor
    """[dim] float64."""
    cov: Tensor
    """[dim, dim] float64."""
    rank: int
    """Upper bound of the covariance's rank: one less than the images, or the width."""

    @property
    def dim(self) -> int:
        """Width of the features."""
        return len(self.mean)


def frechet_distance(a: FeatureStatistics | Gaussian, b: FeatureStatistics | Gaussian) -> float:
    """|μ1 - μ2|² + tr(S1 + S2 - 2 (S1 S2)^½).

    Statistics are taken with ddof = 1; give `gaussian(ddof=0)` for a protocol that divides by the count.

    Raises:
        InputError: the widths differ, or there are fewer than two images.
    """
    if a.dim != b.dim:
        raise InputError(f"features of widths {a.dim} and {b.dim} have no distance; use the same network for both")
    one, two = (each.gaussian() if isinstance(each, FeatureStatistics) else each for each in (a, b))
    distance = (one.mean - two.mean).square().sum() + one.cov.trace() + two.cov.trace() - 2 * _root_trace(one, two)
    return max(0.0, float(distance))


def _root_trace(a: Gaussian, b: Gaussian) -> Tensor:
    """tr((S1 S2)^½) = Σ sqrt(eigvalsh(Fᵀ S2 F)) for any F with F Fᵀ = S1.

    All matrices are symmetric, so this is fast and never complex. With fewer images than dimensions, some eigenvalues
    are 0 except for rounding, whose roots would add up: the ranks exclude them.
    """
    a, b = sorted((a, b), key=lambda each: each.rank)
    factor = _factor(a)
    product = factor.T @ b.cov @ factor
    trace: Tensor = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    return trace


def _factor(gaussian: Gaussian) -> Tensor:
    """[dim, rank] F with F Fᵀ = the covariance; by Cholesky at full rank, which is many times faster."""
    factor: Tensor
    if gaussian.rank == gaussian.dim:
        factor, failed = torch.linalg.cholesky_ex(gaussian.cov)
        if not int(failed):
            return factor
    values, vectors = torch.linalg.eigh(gaussian.cov)
    kept = slice(gaussian.dim - gaussian.rank, None)
    factor = vectors[:, kept] * values[kept].clamp_min(0).sqrt()
    return factor
