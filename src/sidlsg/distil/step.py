"""One iteration of SiD-LSG: the fake score's update, the generator's with the fake score just updated, then the EMA.

The formulas are in `losses`, `guidance`, `sampler` and `teacher.schedule`; this file accumulates their gradients over
micro-batches and processes, and applies them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sidlsg.distil.adversarial import RealBatch
from sidlsg.distil.lora import NAME, lora_layers, trained_parameters
from sidlsg.distil.losses import Method
from sidlsg.distil.networks import local, whole
from sidlsg.distil.sampler import UPDATES, DrawPlan, Draws, Update
from sidlsg.distil.state import TrainingState
from sidlsg.teacher.conditioning import Conditioning, expanded, mapped
from sidlsg.teacher.embeddings import TextEmbeddings
from sidlsg.teacher.families import family_of

INFINITE_GRADIENT = 1e5
RAMP_UP = 0.05
"""The EMA's half-life is at most this share of the images seen so far, so that early averages forget the start."""


def never() -> bool:
    """No process asks for anything."""
    return False


@dataclass
class StepResult:
    """What an iteration reports; the tensors are scalars that stay on the device until they are read."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """Loss by update: over the whole batch, of this process's samples alone."""
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    """Gradient norm by update, where it was asked for."""
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    """What alarms check, where it was asked for; of this process's last micro-batch."""
    nan_samples: int = 0
    stopped: bool = False
    """Whether the run is to stop because one of the processes was asked to; perhaps between the two updates."""
    save: bool = False
    """Whether a checkpoint is due in one of the processes."""


def train_step(
    state: TrainingState,
    method: Method,
    plan: DrawPlan,
    encode: TextEmbeddings,
    micro_batch: int,
    half_life: float,
    observe: bool = True,
    stop: Callable[[], bool] = never,
    save: Callable[[], bool] = never,
) -> StepResult:
    """Advance `state` by one iteration, or by the rest of one.

    The only wait for the device is for one flag, known halfway through the last backward pass of an update: whether a
    sample was non-finite.

    Args:
        state: both networks, their optimizers, the EMA and the counters; changed in place.
        method: the maths.
        plan: what is sampled.
        encode: prompts to text embeddings.
        micro_batch: samples in memory at once; the gradient is that of the whole batch.
        half_life: of the EMA, in images.
        observe: whether norms and diagnostics are wanted.
        stop: asked once an update; True in any process ends the iteration before the next update.
        save: likewise, whether a checkpoint is due: clocks differ, and all processes must save the same state.
    """
    result = StepResult()
    frozen = method.adversary is not None and method.adversary.is_frozen(state.images_seen)
    for update in UPDATES[:1] if frozen else UPDATES:
        if update == "fake_score" and state.fake_score_done:
            continue  # the run was stopped between the two
        found = accumulate(state, method, plan, encode, micro_batch, update, stop, save)
        result.losses[update] = found.loss
        result.nan_samples += found.non_finite
        state.nan_samples += found.non_finite
        norm, step_size = _apply_gradients(state, update, observe)
        if observe:
            result.gradient_norms[update] = norm
            result.diagnostics |= found.diagnostics | {f"{update}_step": step_size}
        state.fake_score_done = update == "fake_score" and not frozen
        if state.fake_score_done and found.stop:
            result.stopped = True
            return result

    update_ema(state.ema, state.generator, ema_decay(plan.batch, state.images_seen, half_life))
    state.iteration += 1
    state.images_seen += plan.batch
    result.stopped, result.save = found.stop, found.save
    return result


@dataclass
class UpdateGradient:
    """What came with one update's gradient."""

    loss: Tensor
    """Scalar: of this process's samples, at the global batch's divisor."""
    diagnostics: dict[str, Tensor]
    non_finite: int
    """Samples of all processes that left the loss because they were not finite."""
    stop: bool
    save: bool


def accumulate(
    state: TrainingState,
    method: Method,
    plan: DrawPlan,
    encode: TextEmbeddings,
    micro_batch: int,
    update: Update,
    stop: Callable[[], bool] = never,
    save: Callable[[], bool] = never,
) -> UpdateGradient:
    """Add the gradient of one update over the whole batch, micro-batch by micro-batch; of all processes, if many.

    The first attempt assumes that every sample is finite. If one is not, in any process, its 0 · NaN has made the
    gradient NaN; all processes then repeat the update, with another sample's draws in place of it and with its loss
    masked.
    """
    network = getattr(state, update)
    networks = {"generator": state.generator, "fake_score": state.fake_score}
    networks[update] = state.parallel.trainee(network)
    generator, fake_score = (state.call(each) for each in networks.values())
    share = state.world.share(plan.batch)
    parts = [share[start : start + micro_batch] for start in range(0, len(share), micro_batch)]
    adversary = method.adversary
    joined = adversary is not None and adversary.has_joined(state.images_seen)

    def once(masked: bool) -> UpdateGradient:
        loss, non_finite = torch.zeros((), device=state.device), torch.zeros((), dtype=torch.long, device=state.device)
        for part in parts:
            last = part is parts[-1]
            draws = _to_network(plan.draw(state.iteration, update, part.start, part.stop), state.generator)
            cond, uncond = encode(draws.prompts, draws.replaced)
            real = None if adversary is None else adversary.batch(draws)
            given = update, generator, fake_score
            mask = None
            if masked:
                with torch.no_grad():
                    mask = method.loss(*given, draws, cond, uncond, plan.batch, real=real, joined=joined).finite
                draws, cond, real = _without(draws, cond, uncond, mask, real)
            with state.parallel.accumulating(network, last):
                found = method.loss(*given, draws, cond, uncond, plan.batch, mask, real, joined)
                non_finite = non_finite + (~(found.finite if mask is None else mask)).sum()
                if last:
                    # Filled on the device: a number that comes from the host would wait for it.
                    asked = [torch.full_like(non_finite, int(ask())) for ask in (stop, save)]
                    flags = AsyncHostCopy(state.world.total(torch.stack([non_finite, *asked])))
                # DDP and FSDP average gradients, and the loss is divided by the global batch already.
                scaled = state.scalers[update].scale(found.loss * float(state.world.size))
                scaled.backward()  # type: ignore[no-untyped-call]
            loss = loss + found.loss.detach()
        count, stopping, saving = flags.read()
        return UpdateGradient(loss, found.diagnostics, count, stopping > 0, saving > 0)

    with _only_trainable(network, state.fake_score, state.generator):
        found = once(masked=False)
        if found.non_finite:
            network.zero_grad(set_to_none=True)
            again = once(masked=True)
            found = replace(again, stop=found.stop or again.stop)
    return found


def _apply_gradients(state: TrainingState, update: Update, observe: bool) -> tuple[Tensor, Tensor]:
    """Unscale, check for overflow, clean, clip, step: in this order.

    Returns:
        Two scalars, zero unless `observe`: the norm of the gradients before clipping, and how far the last layer's
        weights moved, as a share of their size.
    """
    network: Any = getattr(state, update)
    optimizer, scaler = state.optimizers[update], state.scalers[update]
    parameters = list(trained_parameters(network).values())
    scaler.unscale_(optimizer)
    clean_gradients(parameters)
    norm = gradient_norm(parameters) if observe else torch.zeros(())
    if state.settings.gradient_clip:
        clean_gradients(parameters, state.settings.gradient_clip)
    before = _last_weight(network) if observe else None
    scaler.step(optimizer)  # not where there was overflow
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if before is None:
        return norm, norm
    trained, whole = before
    return norm, (_last_weight(network)[0] - trained).norm() / whole.norm().clamp_min(1e-12)


@torch.no_grad()
def _last_weight(network: Any) -> tuple[Tensor, Tensor]:
    """Copies of the last trained layer's weights: the part that training changes, and the whole."""
    layers = lora_layers(network)
    if not layers:
        weight = local(family_of(network).last(network).weight).clone()
        return weight, weight
    added: Tensor = layers[-1].get_delta_weight(NAME)
    return added, layers[-1].get_base_layer().weight + added


@torch.no_grad()
def clean_gradients(parameters: Iterable[nn.Parameter], clip: float = 0.0) -> None:
    """In every gradient: NaN → 0, ±inf → ±1e5, and what is beyond ±clip → ±clip (0: no limit)."""
    for parameter in parameters:
        if parameter.grad is not None:
            gradient = local(parameter.grad)
            gradient.nan_to_num_(nan=0.0, posinf=INFINITE_GRADIENT, neginf=-INFINITE_GRADIENT)
            if clip:
                gradient.clamp_(-clip, clip)


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm over all gradients, sharded or not: a scalar that stays on the device."""
    return whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


def ema_decay(batch: int, images_before: int, half_life: float) -> float:
    """EMA by half-life in images: β = 0.5^(B / max(min(half-life, 0.05 · images before this batch), 1e-8)).

    The first batch gives 0: a copy.
    """
    exponent = batch / max(min(half_life, RAMP_UP * images_before), 1e-8)
    return float(0.5**exponent) if exponent < 1000 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """EMA ← β EMA + (1 - β) θ, parameters only, in float32; the EMA may be in another memory."""
    averages, parameters = (
        [local(p.detach()) for p in trained_parameters(network).values()] for network in (ema, model)
    )
    if averages[0].device != parameters[0].device:
        # One by one, so that the copy needs the memory of one parameter.
        for average, parameter in zip(averages, parameters, strict=True):
            average.lerp_(parameter.to(average.device), 1 - decay)
    elif decay == 0:
        torch._foreach_copy_(averages, parameters)
    else:
        torch._foreach_lerp_(averages, parameters, 1 - decay)


class AsyncHostCopy:
    """A [N] tensor of whole numbers on its way to the host, from the moment that this is made.

    Reading waits for what the device was given before that moment; what it was given since runs on meanwhile.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._host, self._event = numbers, None
        if numbers.device.type == "cuda":
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> list[int]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return [int(number) for number in self._host.tolist()]


@contextmanager
def _only_trainable(network: nn.Module, *networks: nn.Module) -> Iterator[None]:
    """Only `network` collects gradients: the others pass them on to their inputs."""
    parameters = [(other is network, each) for other in networks for each in trained_parameters(other).values()]
    for trained, each in parameters:
        each.requires_grad_(trained)
    try:
        yield
    finally:
        for _, each in parameters:
            each.requires_grad_(True)


def _to_network(draws: Draws, network: nn.Module) -> Draws:
    """Move draws to the network's device; noise stays float32, or becomes float64 with the network."""
    parameter = next(network.parameters())
    dtype = torch.promote_types(parameter.dtype, torch.float32)

    def moved(x: Tensor) -> Tensor:
        # From pageable memory a copy would wait for all that the device was given before.
        return (x.pin_memory() if parameter.is_cuda else x).to(parameter.device, non_blocking=True)

    noises = None if draws.step_noises is None else moved(draws.step_noises).to(dtype)
    z, noise = (moved(x).to(dtype) for x in (draws.z, draws.noise))
    return replace(draws, z=z, noise=noise, t=moved(draws.t), step_noises=noises)


def _without(
    draws: Draws, cond: Conditioning, uncond: Conditioning, finite: Tensor, real: RealBatch | None
) -> tuple[Draws, Conditioning, RealBatch | None]:
    """The same number of samples, with each non-finite one replaced by a finite sample's draws and real image.

    If no sample is finite, zeros and the empty prompt replace them all: a process without finite samples must still
    run, or the others would wait for its share of the gradients.
    """
    good = finite.nonzero().flatten().tolist()
    if not good:
        nothing = torch.zeros_like(draws.z)
        noises = None if draws.step_noises is None else torch.zeros_like(draws.step_noises)
        empty = expanded(uncond, cond)
        images = None if real is None else RealBatch(nothing, empty)
        return replace(draws, z=nothing, noise=nothing, step_noises=noises), empty, images
    rows = [i if ok else good[0] for i, ok in enumerate(finite.tolist())]
    # Their prompts are encoded already.
    noises = None if draws.step_noises is None else draws.step_noises[:, rows]
    kept = replace(draws, z=draws.z[rows], noise=draws.noise[rows], t=draws.t[rows], step_noises=noises)

    def chosen(conditioning: Conditioning) -> Conditioning:
        return mapped(lambda each: each[rows], conditioning)

    return kept, chosen(cond), None if real is None else RealBatch(real.latents[rows], chosen(real.cond))
