"""Precision and recall of generated images by k nearest neighbours.

Defined by Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models": a set's manifold
is the union of balls around its features, each with the distance to the k-th nearest neighbour as radius.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError

NEIGHBOURS = 3
BLOCK = 2048
"""Rows of distances in memory."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Both shares."""

    precision: float
    """Share of generated images in the reference's manifold."""
    recall: float
    """Share of reference images in the generated images' manifold."""


def precision_recall(generated: Tensor, reference: Tensor, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Precision and recall of [N, dim] against [M, dim] features.

    An image is not its own neighbour, but its copies are.

    Raises:
        InputError: the widths differ, or a set has too few images for k neighbours.
    """
    if generated.dim() != 2 or reference.dim() != 2 or generated.shape[1] != reference.shape[1]:
        raise InputError(f"features of shapes {list(generated.shape)} and {list(reference.shape)} do not compare")
    if neighbours < 1:
        raise InputError(f"{neighbours} neighbours asked for; give 1 or more")
    if min(len(generated), len(reference)) <= neighbours:
        raise InputError(
            f"{neighbours} neighbours need more than {neighbours} images a set; there are {len(generated)} generated "
            f"and {len(reference)} reference images"
        )
    return PrecisionRecall(
        precision=_share_inside(generated, reference, neighbours),
        recall=_share_inside(reference, generated, neighbours),
    )


def _share_inside(points: Tensor, centres: Tensor, neighbours: int) -> float:
    # The nearest to each centre is itself, at 0.
    radii = torch.cat([rows.kthvalue(neighbours + 1, dim=1).values for rows in _squared_distances(centres, centres)])
    inside = [(rows <= radii).any(1) for rows in _squared_distances(points, centres)]
    return float(torch.cat(inside).double().mean())


def _squared_distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Blocks of up to [BLOCK, M]; by products in float64, which are faster than differences of all pairs."""
    b = b.double()
    lengths = b.square().sum(1)
    for rows in torch.split(a.double(), BLOCK):
        yield (rows.square().sum(1, keepdim=True) + lengths - 2 * rows @ b.T).clamp_min(0)
