"""How far a score would move if other images had been drawn: intervals by resampling the images that there are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sidlsg.errors import InputError
from sidlsg.randomness import counted

RESAMPLES = 200
NORMAL_95 = 1.959964
"""Standard deviations that 95 % of a normal distribution lie within, on each side."""


def bootstrap_deviation(
    count: int, score: Callable[[Tensor], float], stream: str, seed: int = 0, resamples: int = RESAMPLES
) -> float:
    """The standard deviation of a score over resampled sets of images.

    Args:
        count: images that there are.
        score: takes [count] long indices of images, repeats among them, and gives the score of these.
        stream: names the draws; two scores of one stream and seed see the same resampled sets.
        seed: of the draws.
        resamples: how many sets.

    Raises:
        InputError: there are fewer than two images or two sets.
    """
    if count < 2 or resamples < 2:
        raise InputError(f"{resamples} resamples of {count} images say nothing of a deviation; give two of each")
    values = []
    for number in range(resamples):
        chosen = counted(seed, f"evaluate/bootstrap/{stream}", number).integers(0, count, count)
        values.append(score(torch.from_numpy(chosen)))
    return float(torch.tensor(values, dtype=torch.float64).std())


def interval(value: float, deviation: float) -> tuple[float, float]:
    """The 95 % interval around a value, where its error is normal with this standard deviation.

    Resampled Fréchet distances lie above the value that they belong to, for repeated images make a set narrower; their
    spread is right all the same, so it is put around the value rather than read off as percentiles.
    """
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
