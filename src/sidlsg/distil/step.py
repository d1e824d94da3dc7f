"""One iteration of SiD-LSG: the fake score's update, then the generator's, then the EMA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sidlsg.distil.draws import UPDATES, DrawPlan, Draws, Update
from sidlsg.distil.guidance import Guidance, combine, guidance_pair, guided_output
from sidlsg.distil.losses import fake_score_loss, generator_loss
from sidlsg.distil.optimizer import clean_gradients, ema_decay, finite_samples, gradient_norm, update_ema
from sidlsg.distil.parallel import local
from sidlsg.distil.sampler import generate_latents
from sidlsg.distil.state import TrainingState
from sidlsg.teacher.schedule import NoiseSchedule


class AsyncHostCopy:
    """Numbers on their way from the device to the host, from the moment that this is made.

    Reading waits until what the device had been given by then is done; what it was given since runs on meanwhile.
    """

    def __init__(self, numbers: Tensor) -> None:
        """Args:
        numbers: [N] whole numbers.
        """
        self._event: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._host = numbers

    def read(self) -> list[int]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return [int(number) for number in self._host.tolist()]


Encode = Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor]]
"""Prompt indices and whether each is replaced, to (cond [B, L, D], uncond [1, L, D])."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """The fixed parts of the method: the frozen teacher, the four scales, α and t_init."""

    teacher: Any
    """The teacher's frozen `UNet2DConditionModel`, or a callable that runs it."""
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
    """What an iteration reports; the tensors are scalars that stay on the device until somebody reads them."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """By update: the loss over the whole batch, of this process's samples alone."""
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    """By update, where they were asked for."""
    signs: dict[str, Tensor] = field(default_factory=dict)
    """What alarms look at, where it was asked for; of this process's last micro-batch."""
    nan_samples: int = 0
    stopped: bool = False
    """Whether it ended early because one of the processes was asked to stop."""
    save: bool = False
    """Whether one of the processes finds a checkpoint due."""


def train_step(
    state: TrainingState,
    method: Method,
    plan: DrawPlan,
    encode: Encode,
    micro_batch: int,
    half_life: float,
    observe: bool = True,
    stop: Callable[[], bool] = lambda: False,
    save: Callable[[], bool] = lambda: False,
) -> StepResult:
    """Advance `state` by one iteration, or by the rest of one.

    Nothing here waits for the device's end of an update, but for one flag that is known halfway through its last
    backward pass: whether a sample was not finite.

    Args:
        state: both networks, their optimizers, the EMA and the counters; changed in place.
        method: the maths.
        plan: what is drawn.
        encode: prompts to text states.
        micro_batch: samples in memory at once; the gradient is that of the whole batch.
        half_life: of the EMA, in images.
        observe: whether norms and signs are wanted.
        stop: asked once an update; True in any process ends the iteration before the next update.
        save: likewise, whether a checkpoint is due: clocks differ, and all processes must save the same state.
    """
    result = StepResult()
    for update in UPDATES:
        if update == "fake_score" and state.fake_score_done:
            continue  # the run was stopped between the two
        pass_ = accumulate(state, method, plan, encode, micro_batch, update, stop, save)
        result.losses[update] = pass_.loss
        result.nan_samples += pass_.left_out
        state.nan_samples += pass_.left_out
        if observe:
            result.signs |= pass_.signs
        seen = _apply_gradients(state, update, observe)
        if seen is not None:
            result.gradient_norms[update], result.signs[f"{update}_step"] = seen
        state.fake_score_done = update == "fake_score"
        if update == "fake_score" and pass_.stop:
            result.stopped = True
            return result

    update_ema(state.ema, state.generator, ema_decay(plan.batch, state.images_seen, half_life))
    state.iteration += 1
    state.images_seen += plan.batch
    result.stopped, result.save = pass_.stop, pass_.save
    return result


@dataclass
class UpdateGradient:
    """One update's gradient, and what came with it."""

    loss: Tensor
    """Scalar: of this process's samples, at the global batch's divisor."""
    left_out: int = 0
    """Samples of all processes that left the loss because they were not finite."""
    stop: bool = False
    save: bool = False
    signs: dict[str, Tensor] = field(default_factory=dict)


def accumulate(
    state: TrainingState,
    method: Method,
    plan: DrawPlan,
    encode: Encode,
    micro_batch: int,
    update: Update,
    stop: Callable[[], bool] = lambda: False,
    save: Callable[[], bool] = lambda: False,
) -> UpdateGradient:
    """Add the gradient of one update over the whole batch, micro-batch by micro-batch; of all processes, if many.

    The first try takes every sample to be finite. Where one is not, in any process, its 0 · NaN has spoilt the
    gradient; then all processes do the update again, with another sample's draws in its place and no loss for it.
    """
    network = getattr(state, update)
    with _only_trainable(network, state.fake_score, state.generator):
        found = _accumulate_once(state, method, plan, encode, micro_batch, update, stop, save, careful=False)
        if found.left_out:
            network.zero_grad(set_to_none=True)
            stopping = found.stop
            found = _accumulate_once(state, method, plan, encode, micro_batch, update, stop, save, careful=True)
            found.stop |= stopping
    return found


def _accumulate_once(
    state: TrainingState,
    method: Method,
    plan: DrawPlan,
    encode: Encode,
    micro_batch: int,
    update: Update,
    stop: Callable[[], bool],
    save: Callable[[], bool],
    careful: bool,
) -> UpdateGradient:
    network = getattr(state, update)
    trainee = state.parallel.trainee(network)
    networks = {"generator": state.generator, "fake_score": state.fake_score, update: trainee}
    calls = {name: state.call(each) for name, each in networks.items()}
    scaler: torch.amp.GradScaler = getattr(state, f"{update}_scaler")
    found = UpdateGradient(torch.zeros((), device=state.device))
    notice: AsyncHostCopy | None = None
    left_out: Tensor | None = None
    parts = list(plan.parts(state.world.share(plan.batch), micro_batch))
    for part in parts:
        last = part is parts[-1]
        draws = _to_network(plan.draw(state.iteration, update, part.start, part.stop), state.generator)
        cond, uncond = encode(draws.prompts, draws.replaced)
        mask = None
        if careful:
            with torch.no_grad():
                *_, mask = _loss(method, calls, update, draws, cond, uncond, plan.batch)
            draws, cond = _without(draws, cond, uncond, mask)
        with state.parallel.accumulating(network, last):
            loss, signs, finite = _loss(method, calls, update, draws, cond, uncond, plan.batch, mask)
            bad = (~(finite if mask is None else mask)).sum()
            left_out = bad if left_out is None else left_out + bad
            if last:
                # Filled on the device: a number that comes from the host would wait for it.
                asked = [torch.full_like(left_out, int(each())) for each in (stop, save)]
                notice = AsyncHostCopy(state.world.total(torch.stack([left_out, *asked])))
            scaler.scale(loss * state.parallel.loss_factor).backward()  # type: ignore[no-untyped-call]
        found.loss = found.loss + loss.detach()
        found.signs = signs
    if notice is not None:
        found.left_out, stopping, saving = notice.read()
        found.stop, found.save = stopping > 0, saving > 0
    return found


def _loss(
    method: Method,
    calls: dict[str, Any],
    update: Update,
    draws: Draws,
    cond: Tensor,
    uncond: Tensor,
    batch: int,
    mask: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The loss of one micro-batch at divisor `batch`, its signs, and which of its samples are finite."""
    generator, fake_score = calls["generator"], calls["fake_score"]
    if update == "fake_score":
        output, target, weight = method.fake_score_forward(generator, fake_score, draws, cond, uncond)
        finite = finite_samples(output, target)
        loss = fake_score_loss(output, target, weight, finite if mask is None else mask, batch)
        return loss, fake_score_signs(output, target, weight), finite
    x_g, y_real, y_fake, y_fake_kappa3 = method.generator_forward(generator, fake_score, draws, cond, uncond)
    finite = finite_samples(x_g, y_real, y_fake, *([] if y_fake_kappa3 is None else [y_fake_kappa3]))
    loss = generator_loss(x_g, y_real, y_fake, method.alpha, y_fake_kappa3, finite if mask is None else mask, batch)
    return loss, generator_signs(x_g, y_real, y_fake), finite


@torch.no_grad()
def fake_score_signs(output: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """How good the fake score is: its loss as a share of what predicting zero everywhere would lose."""
    error = weight * (output - target).square().flatten(1).mean(1)
    return {"fake_score_error": error.sum() / (weight * target.square().flatten(1).mean(1)).sum()}


@torch.no_grad()
def generator_signs(x_g: Tensor, y_real: Tensor, y_fake: Tensor) -> dict[str, Tensor]:
    """How large the student's latents are, and how far from them both x0-predictions lie, as shares of that."""
    size = x_g.square().mean().sqrt()
    return {
        "latent_size": size,
        "teacher_distance": (y_real - x_g).square().mean().sqrt() / size,
        "score_difference": (y_real - y_fake).square().mean().sqrt() / size,
    }


def _apply_gradients(state: TrainingState, update: Update, observe: bool) -> tuple[Tensor, Tensor] | None:
    """Unscale, look for overflow, clean, clip, step: in this order.

    Returns:
        Where it is wanted: the norm of the gradients before clipping, and how far the last layer's weights moved, as a
        share of their size.
    """
    network: Any = getattr(state, update)
    optimizer: torch.optim.Optimizer = getattr(state, f"{update}_optimizer")
    scaler: torch.amp.GradScaler = getattr(state, f"{update}_scaler")
    parameters = list(network.parameters())
    scaler.unscale_(optimizer)
    clean_gradients(parameters)
    norm = gradient_norm(parameters) if observe else None
    if state.settings.gradient_clip:
        clean_gradients(parameters, state.settings.gradient_clip)
    watched = local(network.conv_out.weight.detach())
    before = watched.clone() if observe else watched
    scaler.step(optimizer)  # not where there was overflow
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if norm is None:
        return None
    return norm, (watched - before).norm() / before.norm().clamp_min(1e-12)


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

    def moved(x: Tensor) -> Tensor:
        # From pageable memory a copy would wait for all that the device was given before.
        return (x.pin_memory() if parameter.is_cuda else x).to(parameter.device, non_blocking=True)

    return Draws(draws.prompts, draws.replaced, moved(draws.z).to(dtype), moved(draws.noise).to(dtype), moved(draws.t))


def _without(draws: Draws, cond: Tensor, uncond: Tensor, finite: Tensor) -> tuple[Draws, Tensor]:
    """The same number of samples with a finite one's draws in place of each that is not.

    Where none is finite, zeros and the empty prompt take their places: a process with nothing left must still run, or
    the others would wait for its share of the gradients.
    """
    good = finite.nonzero().flatten().tolist()
    if not good:
        nothing = torch.zeros_like(draws.z)
        return Draws(draws.prompts, draws.replaced, nothing, nothing, draws.t), uncond.expand_as(cond)
    rows = [i if ok else good[0] for i, ok in enumerate(finite.tolist())]
    return Draws(
        tuple(draws.prompts[i] for i in rows),
        tuple(draws.replaced[i] for i in rows),
        draws.z[rows],
        draws.noise[rows],
        draws.t[rows],
    ), cond[rows]
