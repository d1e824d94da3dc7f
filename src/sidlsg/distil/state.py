"""The one object that holds everything a run needs to continue."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sidlsg.tensors import (
    Tensors,
    load_optimizer_tensors,
    optimizer_tensors,
    with_prefix,
    without_prefix,
)

_NETWORKS = ("generator", "fake_score", "ema")
_OPTIMIZERS = ("generator_optimizer", "fake_score_optimizer")
_COUNTERS = ("iteration", "images_seen", "nan_samples", "seconds", "log")


@dataclass
class TrainingState:
    """Networks, optimizers, EMA, counters and log of one run.

    There is no random state: all draws follow from `iteration`.
    """

    generator: nn.Module
    fake_score: nn.Module
    ema: nn.Module
    generator_optimizer: torch.optim.Optimizer
    fake_score_optimizer: torch.optim.Optimizer
    iteration: int = 0
    """Finished iterations."""
    images_seen: int = 0
    nan_samples: int = 0
    seconds: float = 0.0
    """Training time so far, restarts added up."""
    log: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, teacher: nn.Module, lr: float, fake_score_lr: float, eps: float = 1e-8) -> TrainingState:
        """Generator, fake score and EMA as copies of the teacher; Adam with β = (0, 0.999), no weight decay."""
        generator, fake_score = (copy.deepcopy(teacher).requires_grad_(True) for _ in range(2))
        ema = copy.deepcopy(teacher).requires_grad_(False)

        def adam(network: nn.Module, rate: float) -> torch.optim.Adam:
            fused = next(network.parameters()).dtype == torch.float32
            return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.999), eps=eps, fused=fused)

        return cls(generator, fake_score, ema, adam(generator, lr), adam(fake_score, fake_score_lr))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.generator.parameters()).device

    def set_learning_rates(self, lr: float, fake_score_lr: float) -> None:
        """Set both optimizers' learning rates for the next step."""
        for optimizer, rate in ((self.generator_optimizer, lr), (self.fake_score_optimizer, fake_score_lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def tensors(self) -> Tensors:
        """Every tensor of the state, by name."""
        result: Tensors = {}
        for name in _NETWORKS:
            result |= with_prefix(name, getattr(self, name).state_dict())
        for name in _OPTIMIZERS:
            result |= with_prefix(name, optimizer_tensors(getattr(self, name)))
        return result

    def counters(self) -> dict[str, Any]:
        """Everything else, fit for JSON."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def restore(self, tensors: Tensors, counters: dict[str, Any]) -> None:
        """Put back what `tensors` and `counters` gave."""
        for name in _NETWORKS:
            getattr(self, name).load_state_dict(without_prefix(name, tensors))
        for name in _OPTIMIZERS:
            load_optimizer_tensors(getattr(self, name), without_prefix(name, tensors))
        for name in _COUNTERS:
            setattr(self, name, counters[name])
