"""Fréchet and kernel distance of features to a reference, and 95 % intervals of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sidlsg.evaluate.fid import FeatureStatistics, Gaussian, frechet_distance
from sidlsg.evaluate.kid import SUBSET_SIZE, kernel_distance, squared_mmds_without
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted

GROUPS = 20
"""Groups of the jackknife."""
NORMAL_95 = 1.959964
"""Half-width of the central 95 % of a normal distribution, in standard deviations."""


def random_groups(count: int, groups: int = GROUPS, seed: int = 0) -> list[Tensor]:
    """Random groups of image indices of nearly equal size; fewer groups if there are too few images for groups of two.

    They are random because the captions of consecutive images may be periodic.

    Raises:
        InputError: there are fewer than four images.
    """
    groups = min(groups, count // 2)
    if groups < 2:
        raise InputError(f"{count} images do not make two groups of two, so there is no interval; sample more")
    order = counted(seed, "evaluate/groups").permutation(count)
    return [torch.from_numpy(order[start::groups].copy()) for start in range(groups)]


def jackknife_deviation(left_out: Sequence[float]) -> float:
    """Jackknife estimate of a score's standard deviation, from its values with one group of images left out in turn."""
    values = torch.tensor(left_out, dtype=torch.float64)
    return float(((len(values) - 1) * values.var(correction=0)).sqrt())


def interval(value: float, deviation: float) -> tuple[float, float]:
    """The 95 % interval of a value whose error is normal with this standard deviation."""
    return value - NORMAL_95 * deviation, value + NORMAL_95 * deviation


def share_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which stays within 0 and 1 and has a width at either end."""
    if not 0 <= successes <= count or count < 1:
        raise InputError(f"{successes} of {count} is not a share")
    z2 = NORMAL_95**2
    share = successes / count
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_95 * ((share * (1 - share) + z2 / (4 * count)) / count) ** 0.5 / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


SUBSET_SEED = 0


@dataclass(frozen=True)
class Reference:
    """Features of the reference images."""

    features: Tensor
    """[M, dim]."""

    @cached_property
    def statistics(self) -> FeatureStatistics:
        """Sums over the images, for a Fréchet distance."""
        return FeatureStatistics(self.features.shape[1]).update(self.features)

    @property
    def scale(self) -> Tensor:
        """Root mean square of all features: the kernel is meant for features of a size near 1."""
        return self.features.double().square().mean().sqrt()

    @property
    def has_kernel_distance(self) -> bool:
        """Whether there are enough images for the kernel distance's subsets."""
        return len(self.features) > SUBSET_SIZE


def frechet_interval(features: Tensor, reference: Gaussian, ddof: int = 1) -> tuple[float, float]:
    """95 % interval of the Fréchet distance over other generated images, for a fixed reference.

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
    """Kernel distance of [N, dim] to [M, dim] features, and its 95 % interval over other generated images.

    The distance is a mean over subsets. Its interval is that of the estimate from all images, by the jackknife.
    """
    found = kernel_distance(features, reference, SUBSET_SEED, size=SUBSET_SIZE)
    left_out = squared_mmds_without(features, reference, random_groups(len(features)))
    return found.mean, interval(found.mean, jackknife_deviation(left_out))
