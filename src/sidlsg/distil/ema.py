"""The generator's exponential moving average, by half-life in images."""

from __future__ import annotations

import torch
from torch import nn

RAMP_UP = 0.05
"""The half-life is at most this share of the images seen so far, so that early averages forget the start."""


def ema_decay(batch: int, images_before: int, half_life: float) -> float:
    """β = 0.5^(B / max(min(half-life, 0.05 · images before this batch), 1e-8)); the first batch gives 0."""
    exponent = batch / max(min(half_life, RAMP_UP * images_before), 1e-8)
    return float(0.5**exponent) if exponent < 1000 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema ← β ema + (1 - β) model, parameters only, in float32."""
    averages, parameters = ([p.detach() for p in network.parameters()] for network in (ema, model))
    if decay == 0:
        torch._foreach_copy_(averages, parameters)
    else:
        torch._foreach_lerp_(averages, parameters, 1 - decay)
