"""Guided network outputs: f_κ(x_t, c) = f(x_t, ∅) + κ (f(x_t, c) - f(x_t, ∅)).

The x0-prediction is affine in the output with the same coefficients for both halves, so combining outputs equals
combining x0-predictions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sidlsg.distil.strategies import STRATEGIES, Guidance

__all__ = ["STRATEGIES", "Guidance", "combine", "guidance_pair", "guided_output"]


def guidance_pair(unet: Any, x_t: Tensor, t: Tensor, cond: Tensor, uncond: Tensor) -> tuple[Tensor, Tensor]:
    """Conditional and unconditional outputs from one forward of 2B samples.

    Args:
        unet: a `UNet2DConditionModel`.
        x_t: [B, C, H, W].
        t: [B] long.
        cond: [B, L, D] encoded prompts.
        uncond: [1, L, D] or [B, L, D] encoded empty prompts.

    Returns:
        Two tensors of x_t's shape; gradient flows through both.
    """
    states = torch.cat([cond, uncond.expand_as(cond)])
    out = unet(torch.cat([x_t, x_t]), torch.cat([t, t]), states).sample
    out_cond, out_uncond = out.chunk(2)
    return out_cond, out_uncond


def combine(out_cond: Tensor, out_uncond: Tensor, kappa: float) -> Tensor:
    """f_κ from the two halves, in float32 (float64 stays)."""
    dtype = torch.promote_types(out_cond.dtype, torch.float32)
    out_cond, out_uncond = out_cond.to(dtype), out_uncond.to(dtype)
    return out_uncond + kappa * (out_cond - out_uncond)


def guided_output(unet: Any, x_t: Tensor, t: Tensor, cond: Tensor, uncond: Tensor, kappa: float) -> Tensor:
    """f_κ(x_t, c) in float32 (float64 stays); at κ = 1 or 0 only the half that counts runs."""
    if kappa in (0, 1):
        states = cond if kappa == 1 else uncond.expand_as(cond)
        out: Tensor = unet(x_t, t, states).sample
        return out.to(torch.promote_types(out.dtype, torch.float32))
    return combine(*guidance_pair(unet, x_t, t, cond, uncond), kappa)
