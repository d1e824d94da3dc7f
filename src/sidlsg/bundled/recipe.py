"""How large and how long: the numbers behind `assets/`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One training run of one network."""

    iterations: int
    batch: int
    lr: float
    """Peak learning rate: linear warm-up over `warmup` iterations, then a cosine to zero."""
    warmup: int = 100
    ema_decay: float = 0.999
    checkpoint_every: int = 250


@dataclass(frozen=True, kw_only=True)
class TeachRecipe:
    """The whole recipe of the bundled teacher and judge."""

    seed: int = 0
    vae: Schedule = Schedule(iterations=3000, batch=64, lr=2e-3)
    kl_weight: float = 5e-4
    """Weight of the KL term per latent dimension against the pixel error per channel."""
    diffusion: Schedule = Schedule(iterations=9000, batch=64, lr=1e-3, warmup=300)
    prompt_dropout: float = 0.1
    """Share of training prompts replaced by the empty prompt, which classifier-free guidance needs."""
    judge: Schedule = Schedule(iterations=1500, batch=128, lr=2e-3)


TINY = TeachRecipe()
"""The recipe that made `assets/`."""
