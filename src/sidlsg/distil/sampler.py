"""The student's sampler: one step from noise to x0, or a few."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.schedule import NoiseSchedule


def generate_latents(
    unet: Any,
    schedule: NoiseSchedule,
    z: Tensor,
    cond: Tensor,
    t_init: int = 625,
    steps: int = 1,
    noises: Tensor | None = None,
) -> Tensor:
    """x_g, differentiable: the x0-prediction of G at (s_{t_init} z, t_init, c), refined for `steps` > 1.

    For i = 0..K-1 (arXiv 2505.12674): t_i = floor(t_init (1 - i/K)); x = a_{t_i} D + s_{t_i} z_i; D is the last
    x0-prediction, 0 at first.

    Args:
        unet: the generator.
        schedule: the teacher's noise schedule.
        z: [B, C, H, W] standard normal.
        cond: [B, L, D] encoded prompts.
        t_init: the timestep of the first step.
        steps: K.
        noises: [K-1, B, C, H, W] fresh noise of the later steps.

    Returns:
        [B, C, H, W] latents, float32 at least.

    Raises:
        InputError: `steps`, `t_init` or `noises` do not fit.
    """
    if not 1 <= t_init < len(schedule):
        raise InputError(f"t_init is {t_init}; allowed: 1 to {len(schedule) - 1}")
    if not 1 <= steps <= t_init:
        raise InputError(f"steps is {steps}; allowed: 1 to t_init = {t_init}")
    given = 0 if noises is None else len(noises)
    if given != steps - 1:
        raise InputError(f"{steps} steps need {steps - 1} fresh noises; {given} were given")
    x_g = torch.zeros_like(z)
    for i in range(steps):
        t = torch.full((len(z),), t_init * (steps - i) // steps, dtype=torch.long, device=z.device)
        z_i = z if i == 0 or noises is None else noises[i - 1]
        x = schedule.add_noise(x_g, z_i, t)
        x_g = schedule.x0(unet(x, t, cond).sample, x, t)
    return x_g
