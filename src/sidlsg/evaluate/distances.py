"""How far a set of features lies from a reference, in two ways, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sidlsg.evaluate.fid import FeatureStatistics, Gaussian, frechet_distance
from sidlsg.evaluate.kid import SUBSET_SIZE, kernel_distance, squared_mmds_without
from sidlsg.evaluate.uncertainty import interval, jackknife_deviation, random_groups

SUBSET_SEED = 0


@dataclass(frozen=True)
class Reference:
    """The reference images' features."""

    features: Tensor
    """[M, dim]."""

    @cached_property
    def statistics(self) -> FeatureStatistics:
        """For a Fréchet distance."""
        return FeatureStatistics(self.features.shape[1]).update(self.features)

    @property
    def scale(self) -> Tensor:
        """Root mean square of all features: kernel distances are made for features of a size near 1."""
        return self.features.double().square().mean().sqrt()

    @property
    def has_kernel_distance(self) -> bool:
        """Whether there are enough images for the subsets of a kernel distance."""
        return len(self.features) > SUBSET_SIZE


def frechet_interval(features: Tensor, reference: Gaussian, ddof: int = 1) -> tuple[float, float]:
    """95 % interval of the Fréchet distance over other generated images; the reference stays as it is.

    Args:
        features: [N, dim] of the generated images.
        reference: of the reference images.
        ddof: for the generated images' covariance.
    """
    dim = features.shape[1]
    groups = [FeatureStatistics(dim).update(features[chosen]) for chosen in random_groups(len(features))]
    whole = FeatureStatistics(dim)
    for group in groups:
        whole.merge(group)
    distances = [frechet_distance(whole.without(group).gaussian(ddof), reference) for group in groups]
    return interval(frechet_distance(whole.gaussian(ddof), reference), jackknife_deviation(distances))


def kernel_distance_with_interval(features: Tensor, reference: Tensor) -> tuple[float, tuple[float, float]]:
    """The kernel distance, and its 95 % interval over other generated images; the reference stays as it is.

    The distance is a mean over subsets. How far it would move is told by the estimate from all images, of which that
    mean is a noisy copy, with groups of generated images left out in turn.

    Args:
        features: [N, dim] of the generated images.
        reference: [M, dim] of the reference images.
    """
    found = kernel_distance(features, reference, SUBSET_SEED, size=SUBSET_SIZE)
    left_out = squared_mmds_without(features, reference, random_groups(len(features)))
    return found.mean, interval(found.mean, jackknife_deviation(left_out))
