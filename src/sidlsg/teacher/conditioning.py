"""What a network is given of prompts: one tensor, or several by the names of the network's arguments.

Stable Diffusion takes text embeddings alone, [B, L, D]; other families take pooled embeddings, masks or sizes besides.
In both forms the first dimension counts prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Conditioning = Tensor | dict[str, Tensor]


def mapped(function: Callable[..., Tensor], *given: Conditioning) -> Conditioning:
    """A function of the tensor, or of each; of several conditionings, of their tensors of one name."""
    first: Any = given[0]
    if isinstance(first, Tensor):
        return function(*given)
    parts: tuple[Any, ...] = given
    return {name: function(*(part[name] for part in parts)) for name in first}


def joined(*parts: Conditioning) -> Conditioning:
    """Several conditionings, one after the other."""
    return mapped(lambda *each: torch.cat(each), *parts)


def expanded(empty: Conditioning, like: Conditioning) -> Conditioning:
    """The empty prompt's, [1, …] or [B, …], in the shape of a conditioning of B prompts, without a copy."""
    return mapped(lambda each, other: each.expand_as(other), empty, like)


def of_shapes(shapes: Mapping[str, tuple[int, ...]], count: int, device: torch.device | str = "cpu") -> Conditioning:
    """Zeros for so many prompts, by a family's shapes of one; a single tensor is without its name."""
    tensors = {name: torch.zeros(count, *shape, device=device) for name, shape in shapes.items()}
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def nbytes(conditioning: Conditioning) -> int:
    """Its size in memory."""
    parts = [conditioning] if isinstance(conditioning, Tensor) else conditioning.values()
    return sum(each.nbytes for each in parts)
