"""The two losses of SiD-LSG, as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

OMEGA_MINIMUM = 1e-5


def fake_score_loss(
    output: Tensor, target: Tensor, weight: Tensor, mask: Tensor | None = None, divisor: int | None = None
) -> Tensor:
    """L_ψ = (1/B) Σ_b w_b Σ_i (f̂_ψ,κ1(x_t)_i - target_i)².

    Args:
        output: [B, C, H, W] guided output of the fake score, on the raw output scale.
        target: [B, C, H, W] what it should be.
        weight: [B].
        mask: [B] bool; samples with False leave the sum.
        divisor: divides the sum; default B.

    Returns:
        A scalar.
    """
    each = weight * (output - target).square().flatten(1).sum(1)
    return _sum(each, mask) / (divisor or len(output))


def generator_loss(
    x_g: Tensor,
    y_real: Tensor,
    y_fake: Tensor,
    alpha: float = 1.0,
    y_fake_kappa3: Tensor | None = None,
    mask: Tensor | None = None,
    divisor: int | None = None,
) -> Tensor:
    """L_θ = (1/B) Σ_b Σ_i (y_real - y_fake)(y_real - x_g - α (y_real - y_fake)) / ω_b.

    ω_b is the mean over C, H, W of |x_g - y_real|, without gradient and at least 1e-5. Where κ2 and κ3 differ, the
    first difference takes `y_fake` (κ2) and the whole second factor `y_fake_kappa3`.

    Args:
        x_g: [B, C, H, W] the generator's sample.
        y_real: [B, C, H, W] the teacher's x0-prediction.
        y_fake: [B, C, H, W] the fake score's x0-prediction at κ2.
        alpha: α.
        y_fake_kappa3: the fake score's x0-prediction at κ3; default `y_fake`.
        mask: [B] bool; samples with False leave the sum.
        divisor: divides the sum; default B.

    Returns:
        A scalar; gradient flows through x_g, y_real and both fake predictions.
    """
    omega = (x_g - y_real).detach().abs().flatten(1).mean(1).clamp_min(OMEGA_MINIMUM)
    second = y_fake if y_fake_kappa3 is None else y_fake_kappa3
    product = (y_real - y_fake) * (y_real - x_g - alpha * (y_real - second))
    return _sum(product.flatten(1).sum(1) / omega, mask) / (divisor or len(x_g))


def _sum(each: Tensor, mask: Tensor | None) -> Tensor:
    # `where`, not a product: 0 · NaN is NaN.
    return each.sum() if mask is None else torch.where(mask, each, torch.zeros_like(each)).sum()
