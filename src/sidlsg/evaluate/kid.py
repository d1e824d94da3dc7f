"""Kernel distance (KID): the unbiased squared maximum mean discrepancy of two sets of features, by a cubic kernel.

The definition is that of Bińkowski et al., "Demystifying MMD GANs". Unlike a Fréchet distance it has no bias from few
images, so it may come out below 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sidlsg.errors import InputError
from sidlsg.randomness import counted

SUBSETS = 100
SUBSET_SIZE = 1000


@dataclass(frozen=True)
class KernelDistance:
    """What the subsets gave."""

    mean: float
    std: float
    """Of single subsets (ddof = 0): how far one of them lies from the mean, not the mean's own error."""


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate with the kernel (x·y / dim + 1)³, in float64.

    Args:
        x: [N, dim] features.
        y: [M, dim] features.

    Raises:
        InputError: the widths differ, or a set has fewer than two features.
    """
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"features of shapes {list(x.shape)} and {list(y.shape)} have no kernel distance")
    if min(len(x), len(y)) < 2:
        raise InputError(f"a kernel distance needs two images a set; there are {len(x)} and {len(y)}")
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / x.shape[1] + 1) ** 3

    def among(a: Tensor) -> Tensor:
        """The mean over all pairs of unlike images."""
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(among(x) + among(y) - 2 * kernel(x, y).mean())


def kernel_distance(
    generated: Tensor, reference: Tensor, seed: int, subsets: int = SUBSETS, size: int = SUBSET_SIZE
) -> KernelDistance:
    """The mean over random subsets, drawn without replacement within each.

    Args:
        generated: [N, dim] features.
        reference: [M, dim] features.
        seed: of the subsets.
        subsets: how many.
        size: images of each set in a subset.

    Raises:
        InputError: a set has fewer images than a subset.
    """
    if min(len(generated), len(reference)) < size:
        raise InputError(
            f"subsets of {size:,} images cannot be drawn from {len(generated):,} generated and {len(reference):,} "
            "reference images; draw more"
        )
    values = []
    for number in range(subsets):
        draws = counted(seed, "evaluate/kid", number)
        chosen = (
            features[torch.from_numpy(draws.choice(len(features), size, replace=False)).to(features.device)]
            for features in (generated, reference)
        )
        values.append(squared_mmd(*chosen))
    found = torch.tensor(values, dtype=torch.float64)
    return KernelDistance(mean=float(found.mean()), std=float(found.std(correction=0)))
