"""How a generator is sampled for an evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a pipeline is sampled."""

    steps: int
    guidance_scale: float
    """Classifier-free guidance where it is above 1."""


@dataclass(frozen=True, kw_only=True)
class StudentSetting(Setting):
    """How a student of several steps is sampled."""

    timesteps: tuple[int, ...]
    """One a step."""
    noise_scale: float = 1.0
    """Multiplies the first noise, where the scheduler does not scale it as the student needs."""
