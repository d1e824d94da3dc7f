"""Gradients after the backward pass: clean-up, size, and the samples that a loss must leave out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sidlsg.distil.parallel import local, whole

INFINITE_GRADIENT = 1e5


@torch.no_grad()
def clean_gradients(parameters: Iterable[nn.Parameter], clip: float = 0.0) -> None:
    """In every gradient: NaN becomes 0, ±inf becomes ±1e5, and what is beyond ±clip becomes ±clip.

    Args:
        parameters: whose gradients.
        clip: largest absolute value of an element; 0 for no limit.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            gradient = local(parameter.grad)
            gradient.nan_to_num_(nan=0.0, posinf=INFINITE_GRADIENT, neginf=-INFINITE_GRADIENT)
            if clip:
                gradient.clamp_(-clip, clip)


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm over all gradients, sharded or not: a scalar that stays on the device."""
    return whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


@torch.no_grad()
def finite_samples(*tensors: Tensor) -> Tensor:
    """[B] bool: whether a sample is finite in every one of the [B, …] tensors."""
    finite = torch.stack([torch.isfinite(x).flatten(1).all(1) for x in tensors])
    return finite.all(0)
