"""The teacher's noise schedule: diffusion of latents, x0 from a network's output, and the times that training draws."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.families.family import FLOW_TIMES, Family
from sidlsg.teacher.families.sd import SCHEDULERS

PREDICTION_TYPES = ("epsilon", "v_prediction")


T_MIN, T_MAX = 20, 979
"""Training draws t uniformly from {20, …, 979}, both ends included."""
SIGMA_LOGIT_MEAN, SIGMA_LOGIT_STD = math.log(2), 1.6
"""Training draws the logit of a flow's σ from this normal distribution (arXiv 2509.25127, its published code)."""


class Schedule(ABC):
    """How latents are diffused, x_t = a_t x + s_t ε, and what the network's output means.

    Computed in float32 at least. Shapes: x, noise, output, x_t: [B, C, H, W]; t: [B] of `time_dtype`.
    """

    time_dtype: ClassVar[torch.dtype]

    @property
    @abstractmethod
    def last(self) -> int:
        """The noisiest time."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the times and latents are."""

    @staticmethod
    @abstractmethod
    def sample_time(row: np.random.Generator) -> np.generic:
        """The t of one sample in training."""

    @abstractmethod
    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a_t, s_t): [B] float64 each."""

    @abstractmethod
    def x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x0-prediction."""

    @abstractmethod
    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The target of the network's output."""

    def weight(self, t: Tensor) -> Tensor:
        """[B] weight of each sample in the fake score's loss."""
        return torch.ones(t.shape, dtype=torch.float32, device=t.device)

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = a_t x + s_t ε."""
        a_t, s_t = self._coefficients(x, t)
        return a_t * _wide(x) + s_t * _wide(noise)

    def implied_noise(self, x_t: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise that makes x_t of x: ε = (x_t - a_t x)/s_t."""
        a_t, s_t = self._coefficients(x_t, t)
        return (_wide(x_t) - a_t * _wide(x)) / s_t

    def _coefficients(self, like: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        shape, dtype = (-1, *([1] * (like.dim() - 1))), torch.promote_types(like.dtype, torch.float32)
        a_t, s_t = (level.view(shape).to(dtype) for level in self.levels(t))
        return a_t, s_t


@dataclass(frozen=True)
class NoiseSchedule(Schedule):
    """DDPM's schedule: `a_t = sqrt(ᾱ_t)` and `s_t = sqrt(1 - ᾱ_t)` at whole timesteps."""

    time_dtype: ClassVar[torch.dtype] = torch.long
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

    @property
    def last(self) -> int:
        """The last timestep."""
        return len(self.alphas_cumprod) - 1

    @property
    def device(self) -> torch.device:
        """Where ᾱ is."""
        return self.alphas_cumprod.device

    @staticmethod
    def sample_time(row: np.random.Generator) -> np.generic:
        """A timestep from T_MIN to T_MAX."""
        return np.int64(row.integers(T_MIN, T_MAX, endpoint=True))

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(ᾱ_t), sqrt(1 - ᾱ_t))."""
        alpha_bar = self.alphas_cumprod[t]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x0-prediction: (x_t - s_t ε̂)/a_t, or a_t x_t - s_t v̂."""
        a_t, s_t = self._coefficients(x_t, t)
        output, x_t = _wide(output), _wide(x_t)
        if self.prediction_type == "epsilon":
            return (x_t - s_t * output) / a_t
        return a_t * x_t - s_t * output

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The target of the network's output: ε, or v = a_t ε - s_t x."""
        if self.prediction_type == "epsilon":
            return _wide(noise)
        a_t, s_t = self._coefficients(x, t)
        return a_t * _wide(noise) - s_t * _wide(x)

    def weight(self, t: Tensor) -> Tensor:
        """[B] weight of each sample in the fake score's loss: 1 for ε, snr/(snr + 1) = ᾱ_t for v."""
        return super().weight(t) if self.prediction_type == "epsilon" else self.alphas_cumprod[t].float()


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """Flow matching: `x_t = (1 - σ) x + σ ε` with `t = 1000 σ`; the network predicts the velocity `v = ε - x`."""

    time_dtype: ClassVar[torch.dtype] = torch.float32
    place: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def to(self, device: torch.device | str) -> FlowSchedule:
        """The same schedule on another device."""
        return FlowSchedule(torch.device(device))

    @property
    def last(self) -> int:
        """σ = 1."""
        return FLOW_TIMES

    @property
    def device(self) -> torch.device:
        """Where the times and latents are."""
        return self.place

    @staticmethod
    def sample_time(row: np.random.Generator) -> np.generic:
        """1000 σ with σ = sigmoid(N(ln 2, 1.6²)), without a shift for the resolution."""
        logit = SIGMA_LOGIT_MEAN + SIGMA_LOGIT_STD * row.standard_normal()
        return np.float32(FLOW_TIMES / (1 + math.exp(-logit)))

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1 - σ, σ)."""
        sigma = t.double() / FLOW_TIMES
        return 1 - sigma, sigma

    def x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x0-prediction: x_t - σ v̂."""
        _, sigma = self._coefficients(x_t, t)
        return _wide(x_t) - sigma * _wide(output)

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:  # noqa: ARG002 - the velocity is the same at all t
        """The target of the network's output: v = ε - x."""
        return _wide(noise) - _wide(x)


def _wide(x: Tensor) -> Tensor:
    """At least float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def schedule_of(family: Family, scheduler: Any) -> NoiseSchedule | FlowSchedule:
    """The schedule of a family's scheduler, on the CPU; raises InputError as `NoiseSchedule.from_scheduler`."""
    return FlowSchedule() if family.flows else NoiseSchedule.from_scheduler(scheduler)
