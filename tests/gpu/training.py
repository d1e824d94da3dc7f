"""The bundled teacher's training on any device, from the same draws on each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sidlsg.distil.guidance import lsg
from sidlsg.distil.losses import Method
from sidlsg.distil.networks import set_matmul_precision
from sidlsg.distil.recipes import Settings
from sidlsg.distil.sampler import DrawPlan, Update
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import StepResult, accumulate, train_step
from sidlsg.prompts.held_out import read_held_out
from sidlsg.runtime.distributed import World
from sidlsg.teacher.pipeline import load_teacher

CPU = torch.device("cpu")
SEED, RATE, KAPPA, HALF_LIFE = 0, 5e-4, 1.2, 1000
LOSS_SCALE = 64.0
"""Of fp16: the usual first one is too large here, and a run would begin with steps that are left out."""


class Bundled:
    """The bundled teacher and text states of some captions, made on the CPU: what all devices start from."""

    def __init__(self, assets: Path) -> None:
        """Args:
        assets: of the package.
        """
        self.folder = assets / "tiny-sd"
        self.teacher = load_teacher(self.folder)
        self.texts = read_held_out(assets / "prompts" / "held_out.txt")
        self.states = self.teacher.encode(self.texts)
        self.uncond = self.teacher.encode.uncond


class Training:
    """A run of it in this process."""

    def __init__(
        self, bundled: Bundled, device: torch.device, batch: int = 16, spoilt: Sequence[int] = (), **settings: Any
    ) -> None:
        """Args:
        bundled: what it starts from.
        device: where it runs.
        batch: images an iteration, at once.
        spoilt: prompts whose text states are NaN.
        settings: of the engine.
        """
        chosen = Settings(**settings)
        set_matmul_precision(chosen.precision)
        eps = 1e-6 if chosen.precision == "fp16" else 1e-8
        self.batch = batch
        self.state = TrainingState.start(
            bundled.teacher.network, RATE, RATE, eps, settings=chosen, world=World(device=device)
        )
        for scaler in self.state.scalers.values():
            if scaler.is_enabled():
                scaler.load_state_dict({**scaler.state_dict(), "scale": LOSS_SCALE})
        frozen = self.state.frozen(load_teacher(bundled.folder).network)
        self.method = Method(
            teacher=self.state.call(frozen), schedule=bundled.teacher.schedule.to(device), guidance=lsg(KAPPA)
        )
        self.states, self.uncond = bundled.states.to(device).clone(), bundled.uncond.to(device)
        for prompt in spoilt:
            self.states[prompt] = torch.nan
        self.plan = DrawPlan(
            seed=SEED,
            batch=batch,
            prompt_count=len(bundled.states),
            latent_shape=bundled.teacher.latent_shape,
            prompt_dropout=0.1,
        )

    def encode(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Text states of prompts; no copy between host and device."""
        rows = [self.uncond[0] if empty else self.states[i] for i, empty in zip(indices, replaced, strict=True)]
        return torch.stack(rows), self.uncond

    def iterate(self, observe: bool = True) -> StepResult:
        """One iteration."""
        return train_step(self.state, self.method, self.plan, self.encode, self.batch, HALF_LIFE, observe)

    def part(self) -> Training:
        """Move both networks away from the teacher, a little and the same way each time: else gradients vanish."""
        generator = torch.Generator().manual_seed(1)
        for network in (self.state.generator, self.state.fake_score):
            for parameter in network.parameters():
                size = parameter.detach().cpu().square().mean().sqrt()
                noise = torch.randn(parameter.shape, generator=generator) * 0.02 * size
                parameter.data += noise.to(parameter.device)
        return self

    def gradient(self, update: Update) -> tuple[float, Tensor]:
        """Loss and gradient of one update at the state as it is, on the CPU."""
        network = getattr(self.state, update)
        found = accumulate(self.state, self.method, self.plan, self.encode, self.batch, update)
        scale = getattr(self.state, f"{update}_scaler").get_scale()
        flat = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double().cpu() / scale
        network.zero_grad(set_to_none=True)
        return float(found.loss), flat

    def weights(self, network: str = "ema") -> Tensor:
        """A network's weights in one row, on the CPU."""
        parameters = getattr(self.state, network).parameters()
        return torch.cat([p.detach().cpu().flatten() for p in parameters])


def distance(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ as a share of ‖b‖."""
    return float((a.double() - b.double()).norm() / b.double().norm())
