"""Gradients after the backward pass: clean-up, and the samples that a loss must leave out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

INFINITE_GRADIENT = 1e5


@torch.no_grad()
def clean_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """In every gradient: NaN becomes 0, ±inf becomes ±1e5."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.nan_to_num_(nan=0.0, posinf=INFINITE_GRADIENT, neginf=-INFINITE_GRADIENT)


@torch.no_grad()
def finite_samples(*tensors: Tensor) -> Tensor:
    """[B] bool: whether a sample is finite in every one of the [B, …] tensors."""
    finite = torch.stack([torch.isfinite(x).flatten(1).all(1) for x in tensors])
    return finite.all(0)
