"""Kernel distance (KID): the unbiased squared maximum mean discrepancy of two sets of features, by a cubic kernel.

Defined by Bińkowski et al., "Demystifying MMD GANs". Unlike the Fréchet distance it is unbiased, so it may be below 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.randomness import counted

SUBSETS = 100
SUBSET_SIZE = 1000
BLOCK = 2048
"""Rows of the kernel in memory."""


@dataclass(frozen=True)
class KernelDistance:
    """Mean and deviation over the subsets."""

    mean: float
    std: float
    """Of single subsets (ddof = 0); not the error of the mean."""


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate for [N, dim] and [M, dim] features with the kernel (x·y / dim + 1)³, in float64.

    Raises:
        InputError: the widths differ, or a set has fewer than two features.
    """
    one = torch.ones(1, dtype=torch.float64, device=x.device)
    return float(_squared_mmds(x, y, one.expand(len(x), 1), one.expand(len(y), 1)))


def squared_mmds_without(x: Tensor, y: Tensor, groups: Sequence[Tensor]) -> list[float]:
    """The unbiased estimates of y against x without each group of indices in turn."""
    kept = torch.ones(len(x), len(groups), dtype=torch.float64)
    for number, group in enumerate(groups):
        kept[group, number] = 0
    every = torch.ones(1, 1, dtype=torch.float64, device=y.device).expand(len(y), len(groups))
    found: list[float] = _squared_mmds(x, y, kept.to(x.device), every).tolist()
    return found


def kernel_distance(
    generated: Tensor, reference: Tensor, seed: int, subsets: int = SUBSETS, size: int = SUBSET_SIZE
) -> KernelDistance:
    """The mean over random subsets of [N, dim] and [M, dim] features, each sampled without replacement.

    Raises:
        InputError: a set has fewer images than a subset, or the widths differ.
    """
    if min(len(generated), len(reference)) < size:
        raise InputError(
            f"subsets of {size:,} images need more than {len(generated):,} generated and {len(reference):,} reference "
            "images; sample more"
        )
    chosen = [torch.zeros(len(each), subsets, dtype=torch.float64) for each in (generated, reference)]
    for number in range(subsets):
        draws = counted(seed, "evaluate/kid", number)
        for mask in chosen:
            mask[torch.from_numpy(draws.choice(len(mask), size, replace=False)), number] = 1
    found = _squared_mmds(generated, reference, *(mask.to(generated.device) for mask in chosen))
    return KernelDistance(mean=float(found.mean()), std=float(found.std(correction=0)))


def _squared_mmds(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """[S] estimates for subsets of [N, dim] and [M, dim] features, given as [N, S] and [M, S] masks of 0 and 1."""
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"features of shapes {list(x.shape)} and {list(y.shape)} have no kernel distance")
    if min(len(x), len(y)) < 2:
        raise InputError(f"a kernel distance needs two images a set; there are {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    n, m = in_x.sum(0), in_y.sum(0)

    def among(features: Tensor, mask: Tensor, count: Tensor) -> Tensor:
        """The mean over all pairs of different images."""
        itself = (features.square().sum(1) / features.shape[1] + 1) ** 3
        return (_kernel_sums(features, features, mask, mask) - itself @ mask) / (count * (count - 1))

    return among(x, in_x, n) + among(y, in_y, m) - 2 * _kernel_sums(x, y, in_x, in_y) / (n * m)


def _kernel_sums(a: Tensor, b: Tensor, in_a: Tensor, in_b: Tensor) -> Tensor:
    """[S] sums of the kernel over the pairs of each subset, some rows at a time."""
    sums = torch.zeros(in_a.shape[1], dtype=torch.float64, device=a.device)
    for rows, mask in zip(torch.split(a, BLOCK), torch.split(in_a, BLOCK), strict=True):
        kernel = rows @ b.T / a.shape[1] + 1
        sums += (kernel**3 @ in_b * mask).sum(0)
    return sums
