"""How far a score would move if other images had been drawn: 95 % intervals from the images that there are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted

GROUPS = 20
"""Parts that a set is left without, one at a time."""
NORMAL_95 = 1.959964
"""Standard deviations that 95 % of a normal distribution lie within, on each side."""


def random_groups(count: int, groups: int = GROUPS, seed: int = 0) -> list[Tensor]:
    """Indices of images in groups of like size, at random: images in order may repeat their captions in step.

    Where there are too few images for that many groups of two, there are fewer groups.

    Raises:
        InputError: there are fewer than four images.
    """
    groups = min(groups, count // 2)
    if groups < 2:
        raise InputError(f"{count} images do not make two groups of two, so an interval cannot be had; draw more")
    order = counted(seed, "evaluate/groups").permutation(count)
    return [torch.from_numpy(order[start::groups].copy()) for start in range(groups)]


def jackknife_deviation(left_out: Sequence[float]) -> float:
    """The standard deviation of a score, from its values with one group of images left out in turn.

    What a score has of bias from few images is the same in all of them, and so drops out.
    """
    values = torch.tensor(left_out, dtype=torch.float64)
    return float(((len(values) - 1) * values.var(correction=0)).sqrt())


def interval(value: float, deviation: float) -> tuple[float, float]:
    """The 95 % interval around a value, where its error is normal with this standard deviation."""
    return value - NORMAL_95 * deviation, value + NORMAL_95 * deviation


def share_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which stays within 0 and 1 and is no point at either end.

    Raises:
        InputError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= count or count < 1:
        raise InputError(f"{successes} of {count} is no share")
    z2 = NORMAL_95**2
    share = successes / count
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_95 * ((share * (1 - share) + z2 / (4 * count)) / count) ** 0.5 / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)
