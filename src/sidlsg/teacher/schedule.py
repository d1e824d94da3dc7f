"""The teacher's noise schedule: diffusion of latents, and x0 from a network's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.folder import SCHEDULERS

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class NoiseSchedule:
    """`x_t = a_t x + s_t ε` with `a_t = sqrt(ᾱ_t)` and `s_t = sqrt(1 - ᾱ_t)`.

    Computed in float32 at least. Shapes: x, noise, output, x_t: [B, C, H, W]; t: [B] long.
    """

    alphas_cumprod: Tensor
    """[T] float64: ᾱ_t."""
    prediction_type: str
    """`epsilon` (ε) or `v_prediction` (v = a_t ε - s_t x)."""

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise InputError(
                f"prediction type {self.prediction_type!r} is not supported; allowed: {', '.join(PREDICTION_TYPES)}"
            )

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> NoiseSchedule:
        """The schedule of a diffusers scheduler; raises InputError where that has no ᾱ, or x0 is undefined."""
        kind = type(scheduler).__name__
        if not hasattr(scheduler, "alphas_cumprod"):
            raise InputError(
                f"a {kind} has no ᾱ (it is of another family, such as flow matching); give a teacher with one of "
                f"{', '.join(SCHEDULERS)}"
            )
        alphas_cumprod = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64, device="cpu")
        schedule = cls(alphas_cumprod, scheduler.config.prediction_type)
        within = (alphas_cumprod >= 0) & (alphas_cumprod <= 1)
        if not within.all():
            t = int((~within).nonzero()[0])
            raise InputError(f"the teacher's {kind} has ᾱ = {alphas_cumprod[t]:g} at timestep {t}; allowed: 0 to 1")
        if schedule.prediction_type == "epsilon" and not alphas_cumprod.all():
            t = int((alphas_cumprod == 0).nonzero()[0])
            raise InputError(
                f"the teacher's {kind} has ᾱ = 0 at timestep {t}, where noise does not determine x0; give "
                "a teacher that predicts v, or whose scheduler has no rescale_betas_zero_snr"
            )
        return schedule

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule on another device."""
        return NoiseSchedule(self.alphas_cumprod.to(device), self.prediction_type)

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = a_t x + s_t ε."""
        a_t, s_t = self._coefficients(x, t)
        return a_t * _wide(x) + s_t * _wide(noise)

    def x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x0-prediction: (x_t - s_t ε̂)/a_t, or a_t x_t - s_t v̂."""
        a_t, s_t = self._coefficients(x_t, t)
        output, x_t = _wide(output), _wide(x_t)
        if self.prediction_type == "epsilon":
            return (x_t - s_t * output) / a_t
        return a_t * x_t - s_t * output

    def implied_noise(self, x_t: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise that makes x_t of x: ε = (x_t - a_t x)/s_t."""
        a_t, s_t = self._coefficients(x_t, t)
        return (_wide(x_t) - a_t * _wide(x)) / s_t

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The target of the network's output: ε, or v = a_t ε - s_t x."""
        if self.prediction_type == "epsilon":
            return _wide(noise)
        a_t, s_t = self._coefficients(x, t)
        return a_t * _wide(noise) - s_t * _wide(x)

    def weight(self, t: Tensor) -> Tensor:
        """[B] weight of each sample in the fake score's loss: 1 for ε, snr/(snr + 1) = ᾱ_t for v."""
        if self.prediction_type == "epsilon":
            return torch.ones(t.shape, dtype=torch.float32, device=t.device)
        return self.alphas_cumprod[t].float()

    def _coefficients(self, like: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alphas_cumprod[t].view(-1, *([1] * (like.dim() - 1)))
        dtype = torch.promote_types(like.dtype, torch.float32)
        return alpha_bar.sqrt().to(dtype), (1 - alpha_bar).sqrt().to(dtype)


def _wide(x: Tensor) -> Tensor:
    """At least float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
