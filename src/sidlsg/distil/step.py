"""One iteration of SiD-LSG: the fake score's update, then the generator's, then the EMA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sidlsg.distil.draws import DrawPlan, Draws, Update
from sidlsg.distil.ema import ema_decay, update_ema
from sidlsg.distil.gradients import clean_gradients, finite_samples
from sidlsg.distil.guidance import Guidance, combine, guidance_pair, guided_output
from sidlsg.distil.losses import fake_score_loss, generator_loss
from sidlsg.distil.sampler import generate_latents
from sidlsg.distil.state import TrainingState
from sidlsg.teacher.schedule import NoiseSchedule

Encode = Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor]]
"""Prompt indices and whether each is replaced, to (cond [B, L, D], uncond [1, L, D])."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """The fixed parts of the method: the frozen teacher, the four scales, α and t_init."""

    teacher: Any
    """The teacher's frozen `UNet2DConditionModel`."""
    schedule: NoiseSchedule
    guidance: Guidance
    alpha: float = 1.0
    t_init: int = 625

    def fake_score_forward(
        self, generator: Any, fake_score: Any, draws: Draws, cond: Tensor, uncond: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(output, target, weight) of the fake score's loss; x_g carries no gradient."""
        with torch.no_grad():
            x_g = generate_latents(generator, self.schedule, draws.z, cond, self.t_init)
        x_t = self.schedule.add_noise(x_g, draws.noise, draws.t)
        output = guided_output(fake_score, x_t, draws.t, cond, uncond, self.guidance.kappa1)
        return output, self.schedule.target(x_g, draws.noise, draws.t), self.schedule.weight(draws.t)

    def generator_forward(
        self, generator: Any, fake_score: Any, draws: Draws, cond: Tensor, uncond: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(x_g, y_real, y_fake at κ2, y_fake at κ3 where it differs) of the generator's loss."""
        _, kappa2, kappa3, kappa4 = self.guidance.scales
        x_g = generate_latents(generator, self.schedule, draws.z, cond, self.t_init)
        x_t = self.schedule.add_noise(x_g, draws.noise, draws.t)

        def x0(output: Tensor) -> Tensor:
            return self.schedule.x0(output, x_t, draws.t)

        y_real = x0(guided_output(self.teacher, x_t, draws.t, cond, uncond, kappa4))
        if kappa2 == kappa3:
            return x_g, y_real, x0(guided_output(fake_score, x_t, draws.t, cond, uncond, kappa2)), None
        # One forward serves both scales.
        pair = guidance_pair(fake_score, x_t, draws.t, cond, uncond)
        return x_g, y_real, x0(combine(*pair, kappa2)), x0(combine(*pair, kappa3))


@dataclass
class StepResult:
    """What an iteration reports."""

    fake_score_loss: float = 0.0
    generator_loss: float = 0.0
    nan_samples: int = 0
    gradient_norms: dict[str, float] = field(default_factory=dict)


def train_step(
    state: TrainingState, method: Method, plan: DrawPlan, encode: Encode, micro_batch: int, half_life: float
) -> StepResult:
    """Advance `state` by one iteration.

    Args:
        state: both networks, their optimizers, the EMA and the counters; changed in place.
        method: the maths.
        plan: what is drawn.
        encode: prompts to text states.
        micro_batch: samples in memory at once; the gradient is that of the whole batch.
        half_life: of the EMA, in images.
    """
    result = StepResult()
    turns: tuple[tuple[Update, nn.Module, torch.optim.Optimizer], ...] = (
        ("fake_score", state.fake_score, state.fake_score_optimizer),
        ("generator", state.generator, state.generator_optimizer),
    )
    for update, network, optimizer in turns:
        optimizer.zero_grad(set_to_none=True)
        with _only_trainable(network, state.fake_score, state.generator):
            total, left_out = accumulate(state, method, plan, encode, micro_batch, update)
        parameters = list(network.parameters())
        clean_gradients(parameters)
        result.gradient_norms[update] = float(
            nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        setattr(result, f"{update}_loss", total)
        result.nan_samples += left_out

    update_ema(state.ema, state.generator, ema_decay(plan.batch, state.images_seen, half_life))
    state.iteration += 1
    state.images_seen += plan.batch
    state.nan_samples += result.nan_samples
    return result


def accumulate(
    state: TrainingState, method: Method, plan: DrawPlan, encode: Encode, micro_batch: int, update: Update
) -> tuple[float, int]:
    """Add the gradient of one update over the whole batch, micro-batch by micro-batch.

    Returns:
        The loss, and how many samples left it because they were not finite.
    """
    total, left_out = 0.0, 0
    for draws in plan.micro_batches(state.iteration, update, micro_batch):
        draws = _to_network(draws, state.generator)
        cond, uncond = encode(draws.prompts, draws.replaced)
        loss, finite = _loss(state, method, update, draws, cond, uncond, plan.batch)
        if not bool(finite.all()):
            # Masking after the forward leaves 0 · NaN in the weights' gradient: run again without those samples.
            left_out += int((~finite).sum())
            if not bool(finite.any()):
                continue
            keep = finite.nonzero().flatten()
            loss, _ = _loss(state, method, update, _select(draws, keep), cond[keep], uncond, plan.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total, left_out


def _loss(
    state: TrainingState, method: Method, update: Update, draws: Draws, cond: Tensor, uncond: Tensor, batch: int
) -> tuple[Tensor, Tensor]:
    """The loss of one micro-batch at divisor `batch`, and which of its samples are finite."""
    if update == "fake_score":
        output, target, weight = method.fake_score_forward(state.generator, state.fake_score, draws, cond, uncond)
        finite = finite_samples(output, target)
        return fake_score_loss(output, target, weight, finite, batch), finite
    x_g, y_real, y_fake, y_fake_kappa3 = method.generator_forward(
        state.generator, state.fake_score, draws, cond, uncond
    )
    finite = finite_samples(x_g, y_real, y_fake, *([] if y_fake_kappa3 is None else [y_fake_kappa3]))
    return generator_loss(x_g, y_real, y_fake, method.alpha, y_fake_kappa3, finite, batch), finite


@contextmanager
def _only_trainable(network: nn.Module, *networks: nn.Module) -> Iterator[None]:
    """Only `network` collects gradients: the others pass them on to their inputs."""
    for other in networks:
        other.requires_grad_(other is network)
    try:
        yield
    finally:
        for other in networks:
            other.requires_grad_(True)


def _to_network(draws: Draws, network: nn.Module) -> Draws:
    """Move draws to the network's device; noise stays float32, or becomes float64 with the network."""
    parameter = next(network.parameters())
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    z, noise = (x.to(parameter.device, dtype, non_blocking=True) for x in (draws.z, draws.noise))
    return Draws(draws.prompts, draws.replaced, z, noise, draws.t.to(parameter.device, non_blocking=True))


def _select(draws: Draws, keep: Tensor) -> Draws:
    rows = keep.tolist()
    return Draws(
        tuple(draws.prompts[i] for i in rows),
        tuple(draws.replaced[i] for i in rows),
        draws.z[keep],
        draws.noise[keep],
        draws.t[keep],
    )
