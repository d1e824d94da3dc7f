"""The estimate of a run: memory by part, the largest micro-batch, time, and the options that make it fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from sidlsg.distil.estimate.devices import Gpu, local_gpu
from sidlsg.distil.estimate.iteration import IterationNeeds, measure
from sidlsg.distil.estimate.memory import Network, Use, upper_bound
from sidlsg.distil.estimate.speed import MFU, iteration_seconds
from sidlsg.distil.few_steps import check_stock_steps
from sidlsg.distil.recipes import Recipe, Settings
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import host_memory
from sidlsg.teacher.architectures import Architecture

OPTIONS: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adam", "adam8bit"),
    "activation_checkpointing": (False, True),
    "optimizer_offload": (False, True),
    "ema_offload": (False, True),
}
"""Settings that save memory without changing the method, with their values."""
CHECKPOINTS, EMBEDDINGS, IMAGES = "checkpoints", "million_embeddings", "thousand_images"
LATENTS = "million_real_latents"
FLOAT16 = 2
"""Bytes of a number in stored text embeddings."""
ENOUGH = 4
"""The micro-batch from which a GPU is well used."""
_ANY_PEAK = 100e12
"""FLOP/s by which options are compared where the device's own are unknown."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A set of options with its effect."""

    settings: Settings
    micro_batch: int
    """The largest that fits; 0 for none."""
    seconds: float
    """Seconds of an iteration; only for comparison."""

    def flags(self, recipe: Settings) -> str:
        """The `--set` options that turn a recipe's settings into these."""
        words = []
        for name in OPTIONS:
            value = getattr(self.settings, name)
            if value != getattr(recipe, name):
                words.append(f"--set {name}={str(value).lower() if isinstance(value, bool) else value}")
        return " ".join(words)


def choices(
    use: Use, needs: Callable[[bool], IterationNeeds], available: int, batch: int, peak: float, mfu: float
) -> list[Choice]:
    """Every set of options by cost: 8-bit states last, because they round; the others by time.

    Only the first, without any option, where `ENOUGH` images fit with it: none is faster.

    Args:
        use: with the settings to vary.
        needs: of an iteration, with or without activation checkpointing.
        available: bytes of the device.
        batch: the global batch.
        peak: FLOP/s of each process's GPU.
        mfu: the assumed share of the peak.
    """
    found = []
    for values in itertools.product(*OPTIONS.values()):
        try:
            settings = replace(use.settings, **dict(zip(OPTIONS, values, strict=True)))
        except InputError:
            continue  # options that exclude each other
        varied, measured = replace(use, settings=settings), needs(settings.activation_checkpointing)
        micro_batch = varied.largest_micro_batch(measured, available, batch // use.world_size)
        seconds = iteration_seconds(varied, measured.flops, batch, peak, mfu)
        found.append(Choice(settings=settings, micro_batch=micro_batch, seconds=seconds))
        if len(found) == 1 and micro_batch >= min(ENOUGH, batch // use.world_size):
            break
    return sorted(found, key=lambda choice: (choice.settings.optimizer == "adam8bit", choice.seconds))


def fastest(found: list[Choice], micro_batch: int) -> Choice | None:
    """The first choice with which this micro-batch fits."""
    return next((choice for choice in found if choice.micro_batch >= micro_batch), None)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a recipe needs on a device."""

    recipe: Recipe
    gpu: Gpu
    world_size: int
    parts: dict[str, int]
    """Bytes by part at the peak, on one device, at the recipe's micro-batch."""
    host: int
    """Bytes in the host's memory, of all processes."""
    disk: dict[str, int]
    """Bytes on disk at most: of the checkpoints, of a million prompts' text embeddings, of a thousand images; of a
    million real images' latents where the recipe uses any."""
    micro_batch: int
    """The recipe's, or a process's share of the batch if that is less."""
    largest_micro_batch: int
    """The largest micro-batch that fits with the recipe's options; 0 if none does."""
    flops: float
    """FLOPs of an iteration, per image, with those of activation checkpointing."""
    mfu: float
    seconds: float | None
    """Seconds of an iteration; None where the device's peak is unknown."""
    fits_one: Choice | None
    """The fastest options for a micro-batch of 1."""
    fits_enough: Choice | None
    """The fastest options for one of `ENOUGH`."""

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the recipe fits as it is."""
        return self.total <= self.gpu.memory

    @property
    def options(self) -> Choice | None:
        """The fastest options that make the run fit; None if it fits, or nothing makes it fit."""
        return None if self.fits else self.fits_enough or self.fits_one

    @property
    def images_per_second(self) -> float | None:
        """Throughput of all devices together, with these options if the recipe itself does not fit."""
        if self.seconds is None or not (self.fits or self.options):
            return None
        return self.recipe.batch / (self.options.seconds if self.options else self.seconds)

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours of all devices together, for the whole recipe, with these options likewise."""
        speed = self.images_per_second
        return None if speed is None else self.recipe.iterations * self.recipe.batch / speed * self.world_size / 3600

    def flags(self, choice: Choice) -> str:
        """A choice as `--set` options, with a micro-batch that divides a process's share of the batch."""
        share = self.recipe.batch // self.world_size
        most = min(choice.micro_batch, self.micro_batch)
        micro_batch = max(n for n in range(1, most + 1) if share % n == 0)
        words = choice.flags(self.recipe.settings)
        if micro_batch != self.recipe.micro_batch:
            words += f" --set micro_batch={micro_batch}"
        return words.strip()

    @property
    def advice(self) -> str:
        """What makes the recipe fit."""
        best = self.fits_enough or self.fits_one
        if best:
            return self.flags(best)
        return "more memory" if self.recipe.lora else "more memory, or several GPUs with --set parallel=fsdp"


def estimate(
    shape: Architecture,
    recipe: Recipe,
    gpu: Gpu,
    *,
    world_size: int = 1,
    text_encoder: int = 0,
    mfu: float = MFU,
    on_host: bool = False,
    advise: bool = True,
    report: Callable[[str], None] = lambda _: None,
) -> Estimate:
    """What a recipe needs, from its teacher's architecture alone.

    Args:
        shape: the teacher's.
        recipe: the recipe.
        gpu: each process's device.
        world_size: number of processes.
        text_encoder: its parameters, if it encodes during training; 0 if prompts were encoded before.
        mfu: the assumed share of the GPU's peak.
        on_host: whether the device is the CPU.
        advise: whether to compare options also where the recipe fits, which may take as long again.
        report: receives progress lines; the estimate takes up to a minute.

    Raises:
        InputError: the recipe does not fit the teacher, the batch does not divide among the processes, or `mfu` is out
            of range.
    """
    check_stock_steps(shape.family, recipe.few_steps, recipe.name)
    if world_size < 1 or recipe.batch % world_size:
        raise InputError(
            f"batch {recipe.batch} does not divide among {world_size} processes; give a number that divides it"
        )
    share, settings = recipe.batch // world_size, recipe.settings
    use = Use(
        network=Network.of(shape, recipe.lora),
        settings=settings,
        world_size=world_size,
        text_encoder=text_encoder,
        gpu=not on_host,
    )

    @cache
    def needs(checkpointing: bool) -> IterationNeeds:
        varied = replace(settings, activation_checkpointing=checkpointing)
        return measure(shape, recipe, varied, share > recipe.micro_batch, not on_host, report)

    own = needs(settings.activation_checkpointing)
    micro_batch = min(share, recipe.micro_batch)
    parts = use.at(own, micro_batch)
    peak = gpu.peaks.get(settings.precision)
    found: list[Choice] = []
    if advise or sum(parts.values()) > gpu.memory:
        found = choices(use, needs, gpu.memory, recipe.batch, peak or _ANY_PEAK, mfu)
    return Estimate(
        recipe=recipe,
        gpu=gpu,
        world_size=world_size,
        parts=parts,
        host=use.host,
        disk=_disk(shape, recipe, use.state),
        micro_batch=micro_batch,
        largest_micro_batch=use.largest_micro_batch(own, gpu.memory, share),
        flops=own.flops,
        mfu=mfu,
        seconds=None if peak is None else iteration_seconds(use, own.flops, recipe.batch, peak, mfu),
        fits_one=fastest(found, 1),
        fits_enough=fastest(found, min(ENOUGH, share)),
    )


def _disk(shape: Architecture, recipe: Recipe, state: int) -> dict[str, int]:
    # Besides those that stay, the one that is being written, and the one with the best score.
    checkpoints = recipe.keep_checkpoints + 1 + (recipe.evaluate_every > 0)
    size = shape.family.latent_shape(shape.config)
    latents = {LATENTS: 10**6 * math.prod(size) * FLOAT16} if recipe.adversarial else {}
    return {
        CHECKPOINTS: checkpoints * state,
        EMBEDDINGS: 10**6 * sum(map(math.prod, shape.conditioning.values())) * FLOAT16,
        IMAGES: 1000 * 3 * (shape.pixels * size[1]) ** 2,  # without compression
        **latents,
    }


def check_fits(
    shape: Architecture,
    recipe: Recipe,
    world_size: int,
    device: torch.device,
    text_encoder: int,
    report: Callable[[str], None],
) -> None:
    """Report in one line how much memory a run needs, and refuse one that cannot fit.

    An upper bound decides for small networks within a second; an estimate for others within half a minute.

    Args:
        shape: the teacher's.
        recipe: the recipe.
        world_size: number of processes.
        device: this process's.
        text_encoder: its parameters, if it encodes during training; 0 if prompts were encoded before.
        report: receives the line.

    Raises:
        InputError: the run cannot fit; the message names the options with which it would.
    """
    gpu, on_host = _free(device), device.type != "cuda"
    if gpu is None:
        return
    use = Use(
        network=Network.of(shape, recipe.lora),
        settings=recipe.settings,
        world_size=world_size,
        text_encoder=text_encoder,
        gpu=not on_host,
    )
    bound = upper_bound(shape, use, min(max(1, recipe.batch // world_size), recipe.micro_batch))
    if bound <= gpu.memory:
        report(f"memory: at most {_gb(bound)} of the {_gb(gpu.memory)} GB that are free on {gpu.name}")
        return
    found = estimate(
        shape,
        recipe,
        gpu,
        world_size=world_size,
        text_encoder=text_encoder,
        on_host=on_host,
        advise=False,
        report=report,
    )
    if found.fits:
        line = f"memory: about {_gb(found.total)} of the {_gb(gpu.memory)} GB that are free on {gpu.name}"
        if found.images_per_second is not None:
            line += f"; {found.images_per_second:.3g} images/s if {found.mfu:.0%} of its peak are reached (assumed)"
    else:
        line = (
            f"recipe {recipe.name!r} at micro_batch {found.micro_batch} needs about {_gb(found.total)} GB on "
            f"{gpu.name}, where {_gb(gpu.memory)} GB are free; what would fit: {found.advice}"
        )
        if recipe.memory_check == "refuse":
            raise InputError(f"{line}; or --set memory_check=warn to try all the same")
    report(line)


def _free(device: torch.device) -> Gpu | None:
    """The device with the memory that this process may take; None where the system does not report it."""
    if device.type != "cuda":
        memory = host_memory()
        return None if memory is None else Gpu(name="this machine", memory=memory, peaks={})
    free, _ = torch.cuda.mem_get_info(device)
    return replace(local_gpu(device), memory=free + torch.cuda.memory_reserved(device))


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g}"
