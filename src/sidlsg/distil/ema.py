"""The generator's exponential moving average, by half-life in images."""

from __future__ import annotations

import torch
from torch import nn

from sidlsg.distil.parallel import local

RAMP_UP = 0.05
"""The half-life is at most this share of the images seen so far, so that early averages forget the start."""


def ema_decay(batch: int, images_before: int, half_life: float) -> float:
    """β = 0.5^(B / max(min(half-life, 0.05 · images before this batch), 1e-8)); the first batch gives 0."""
    exponent = batch / max(min(half_life, RAMP_UP * images_before), 1e-8)
    return float(0.5**exponent) if exponent < 1000 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema ← β ema + (1 - β) model, parameters only, in float32; the EMA may live in another memory."""
    averages, parameters = ([local(p.detach()) for p in network.parameters()] for network in (ema, model))
    if averages[0].device != parameters[0].device:
        # One by one, so that the copy needs the memory of one parameter.
        for average, parameter in zip(averages, parameters, strict=True):
            average.lerp_(parameter.to(average.device), 1 - decay)
    elif decay == 0:
        torch._foreach_copy_(averages, parameters)
    else:
        torch._foreach_lerp_(averages, parameters, 1 - decay)
