"""The training loop that the VAE, the diffusion model and the judge share: schedule, EMA, progress, resume."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import (
    load_optimizer_tensors,
    load_tensors,
    optimizer_tensors,
    save_tensors,
    with_prefix,
    without_prefix,
)


@dataclass(frozen=True, kw_only=True)
class TeachSchedule:
    """The training of one network."""

    iterations: int
    batch: int
    lr: float
    """Peak learning rate: linear warm-up over `warmup` iterations, then a cosine to zero."""
    warmup: int = 100
    ema_decay: float = 0.999
    checkpoint_every: int = 250


@dataclass(frozen=True, kw_only=True)
class TeachRecipe:
    """The whole recipe of a bundled teacher and judge."""

    seed: int = 0
    vae_channels: tuple[int, ...] = (16, 32, 64)
    """Channels of the VAE's levels; each but the first has half the height and width of the one before."""
    vae_groups: int = 8
    """Groups of the VAE's norms. One of a single channel would lose the channel's mean over the image."""
    latent_channels: int = 4
    unet_channels: tuple[int, ...] = (64, 96)
    text_layers: int = 2
    vae: TeachSchedule = TeachSchedule(iterations=3000, batch=64, lr=2e-3)
    kl_weight: float = 5e-4
    """Weight of the KL term per latent dimension against the pixel error per channel."""
    diffusion: TeachSchedule = TeachSchedule(iterations=9000, batch=64, lr=1e-3, warmup=300)
    diffusion_precision: str = "fp32"
    """What the diffusion network computes in, and the VAE that encodes its images: `fp32`, or `bf16` under autocast."""
    zero_terminal_snr: bool = False
    """Whether the last timestep is noise alone, with v-prediction; otherwise Stable Diffusion's schedule predicts ε."""
    timestep_power: float = 1
    """A timestep is drawn as the last one less a share u ** power of all, u uniform: above 1, noisy ones come more."""
    prompt_dropout: float = 0.1
    """Share of prompts replaced by the empty prompt, for classifier-free guidance."""
    judge: TeachSchedule = TeachSchedule(iterations=1500, batch=128, lr=2e-3)

    def values(self, names: str) -> dict[str, Any]:
        """The values of some names, which are separated by spaces."""
        return {name: getattr(self, name) for name in names.split()}


TINY = TeachRecipe()
"""The recipe of the shapes domain."""
SCENES = TeachRecipe(
    vae_channels=(16, 32, 64, 64),
    vae_groups=4,
    latent_channels=8,
    unet_channels=(64, 128),
    text_layers=4,
    vae=TeachSchedule(iterations=5000, batch=16, lr=1e-3),
    kl_weight=1e-4,
    diffusion=TeachSchedule(iterations=20_000, batch=32, lr=1e-3, warmup=300),
    diffusion_precision="bf16",
    timestep_power=2,  # the layout is decided while an image is almost noise alone
    zero_terminal_snr=True,  # else the network reads the background from the noise instead of from the text
    judge=TeachSchedule(iterations=3000, batch=128, lr=2e-3),
)
"""The recipe of the scenes domain."""
RECIPES = {"shapes": TINY, "scenes": SCENES}
"""By domain."""
OTHER = TeachRecipe(diffusion=TeachSchedule(iterations=5000, batch=64, lr=1e-3, warmup=300))
"""The recipe of other families' tiny teachers, which have the bundled one's VAE."""


LOG_EVERY = 50
Log = list[dict[str, float]]


def learning_rate(schedule: TeachSchedule, iteration: int) -> float:
    """Linear warm-up, then a cosine to zero at the last iteration."""
    if iteration < schedule.warmup:
        return schedule.lr * (iteration + 1) / schedule.warmup
    done = (iteration - schedule.warmup) / max(1, schedule.iterations - schedule.warmup)
    return schedule.lr * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    name: str,
    model: nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    schedule: TeachSchedule,
    checkpoint: Path,
    report: Callable[[str], None],
    made_from: Mapping[str, Any],
) -> Log:
    """Train `model` in place, with its EMA weights as the result; a killed run resumes from `checkpoint`.

    Args:
        name: for progress lines.
        model: has all parameters to train.
        loss_at: the loss of an iteration, a function of the iteration alone.
        schedule: length, batch and learning rate.
        checkpoint: safetensors file of the run's state.
        report: receives progress lines.
        made_from: what else decides the result, by name, fit for JSON.

    Returns:
        The log: a row every `LOG_EVERY` iterations with the mean loss since the previous row.

    Raises:
        InputError: `checkpoint` is the state of another training.
    """
    made_from = json.loads(json.dumps({**made_from, "schedule": asdict(schedule)}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema = copy.deepcopy(model)
    start, log = 0, Log()
    losses: list[float] = []  # since the last log row
    if checkpoint.exists():
        tensors, counters = load_tensors(checkpoint)
        _require_same(checkpoint, counters.get("made_from", {}), made_from)
        try:
            start, log, losses = int(counters["iteration"]), list(counters["log"]), list(counters.get("losses", []))
            model.load_state_dict(without_prefix("model", tensors))
            ema.load_state_dict(without_prefix("ema", tensors))
            load_optimizer_tensors(optimizer, without_prefix("optimizer", tensors))
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{checkpoint} is not a state of this training ({reason}); delete it to begin anew"
            ) from error
        report(f"{name}: continues at iteration {start} from {checkpoint}")

    model.train()
    began = time.monotonic()
    for iteration in range(start, schedule.iterations):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(schedule, iteration)
        loss = loss_at(iteration)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # A faster decay at first: the initial weights are far from good ones.
        decay = min(schedule.ema_decay, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            for average, parameter in zip(ema.parameters(), model.parameters(), strict=True):
                average.lerp_(parameter, 1 - decay)

        losses.append(float(loss.detach()))
        done = iteration + 1
        last = done == schedule.iterations
        if done % LOG_EVERY == 0 or last:
            mean = sum(losses) / len(losses)
            log.append({"iteration": done, "loss": round(mean, 6)})
            losses.clear()
            rate = (done - start) * schedule.batch / (time.monotonic() - began)
            left = (schedule.iterations - done) * schedule.batch / rate
            report(
                f"{name}: {done}/{schedule.iterations} iterations, loss {mean:.4f}, "
                f"{rate:.0f} images/s, {left / 60:.1f} min left"
            )
        if done % schedule.checkpoint_every == 0 or last:
            state: dict[str, Any] = with_prefix("model", model.state_dict())
            state |= with_prefix("ema", ema.state_dict())
            state |= with_prefix("optimizer", optimizer_tensors(optimizer))
            save_tensors(checkpoint, state, {"iteration": done, "log": log, "losses": losses, "made_from": made_from})
    model.load_state_dict(ema.state_dict())
    model.eval()
    return log


def _require_same(checkpoint: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"{checkpoint} is the state of another training: {name} is {found.get(name)} there and "
                f"{wanted.get(name)} here; delete it to begin anew, or give another folder as --work"
            )
