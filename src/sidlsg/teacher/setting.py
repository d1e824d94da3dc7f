"""How a generator is sampled for an evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a pipeline is sampled."""

    steps: int
    guidance_scale: float
    """Classifier-free guidance where it is above 1."""
