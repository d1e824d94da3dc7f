"""The estimate of a run: memory by part, the largest micro-batch, time, money, and the options that would help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sidlsg.distil.estimate.choose import Choice, cheapest, choices
from sidlsg.distil.estimate.devices import Gpu
from sidlsg.distil.estimate.iteration import Passes, measure
from sidlsg.distil.estimate.memory import Network, Use
from sidlsg.distil.estimate.speed import MFU, iteration_seconds
from sidlsg.distil.recipes import Recipe
from sidlsg.runtime.errors import InputError

ENOUGH = 4
"""Samples at once from which a GPU is better used; fewer leave much of it idle."""
_ANY_PEAK = 100e12
"""FLOP/s by which options compare where the device's own are not known."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a recipe needs on a device."""

    recipe: Recipe
    gpu: Gpu
    world_size: int
    parts: dict[str, int]
    """Bytes by part at the peak, one device, at the recipe's micro-batch."""
    micro_batch: int
    """The recipe's, or a process's whole share of the batch where that is less."""
    largest_micro_batch: int
    """With the recipe's options; 0 if none fits."""
    flops: float
    """Of an iteration, per image, those of activation checkpointing included."""
    mfu: float
    seconds: float | None
    """Of an iteration; None where the device's peak is not known."""
    fits_one: Choice | None
    """The cheapest options with which a micro-batch of 1 fits."""
    fits_enough: Choice | None
    """The cheapest options with which one of `ENOUGH` fits."""

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the recipe runs as it is."""
        return self.total <= self.gpu.memory

    @property
    def images_per_second(self) -> float | None:
        """Of all devices together."""
        return None if self.seconds is None else self.recipe.batch / self.seconds

    @property
    def gpu_hours(self) -> float | None:
        """Of all devices together, for the whole recipe."""
        return None if self.seconds is None else self.recipe.iterations * self.seconds * self.world_size / 3600

    def flags(self, choice: Choice) -> str:
        """A choice as a person types it, with a micro-batch that divides the share of a process."""
        share = self.recipe.batch // self.world_size
        most = min(choice.micro_batch, self.micro_batch)
        micro_batch = max(n for n in range(1, most + 1) if share % n == 0)
        words = choice.flags(self.recipe.settings)
        if micro_batch != self.recipe.micro_batch:
            words += f" --set micro_batch={micro_batch}"
        return words.strip()

    @property
    def advice(self) -> str:
        """What would make it fit."""
        best = self.fits_enough or self.fits_one
        if best is None:
            return "more memory, or several GPUs with --set parallel=fsdp"
        return self.flags(best)


def estimate(
    config: Mapping[str, Any],
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
    """What a recipe needs, from the shape of its teacher's UNet alone.

    Args:
        config: of the teacher's UNet, as in `unet/config.json`.
        recipe: what is to run.
        gpu: each process's device.
        world_size: how many processes, a device each.
        text_encoder: its parameters, if it encodes during training; 0 if prompts were encoded before.
        mfu: the share of the GPU's peak that is reached; an assumption.
        on_host: whether the device is the CPU.
        advise: whether choices are wanted even where the recipe fits; they take as long again.
        report: receives lines while it works, which takes up to a minute.

    Raises:
        InputError: the batch does not divide among the processes, or `mfu` is no share.
    """
    if world_size < 1 or recipe.batch % world_size:
        raise InputError(
            f"batch {recipe.batch} does not divide among {world_size} processes; give a number that divides it"
        )
    share = recipe.batch // world_size
    settings = recipe.settings
    use = Use(
        network=Network.of(config),
        settings=settings,
        world_size=world_size,
        text_encoder=text_encoder,
        gpu=not on_host,
    )

    @cache
    def passes(again: bool) -> Passes:
        varied = replace(settings, activation_checkpointing=again)
        return measure(config, recipe, varied, share > recipe.micro_batch, not on_host, report)

    def seconds(varied: Use, peak: float) -> float:
        again = varied.settings.activation_checkpointing
        return iteration_seconds(varied, passes(again).flops, recipe.batch, peak, mfu)

    own = passes(settings.activation_checkpointing)
    micro_batch = min(share, recipe.micro_batch)
    parts = use.at(own, micro_batch)
    peak = gpu.peaks.get(settings.precision)
    found: list[Choice] = []
    if advise or sum(parts.values()) > gpu.memory:
        found = choices(use, passes, gpu.memory, share, lambda varied: seconds(varied, peak or _ANY_PEAK))
    return Estimate(
        recipe=recipe,
        gpu=gpu,
        world_size=world_size,
        parts=parts,
        micro_batch=micro_batch,
        largest_micro_batch=use.largest_micro_batch(own, gpu.memory, share),
        flops=own.flops,
        mfu=mfu,
        seconds=None if peak is None else seconds(use, peak),
        fits_one=cheapest(found, 1),
        fits_enough=cheapest(found, min(ENOUGH, share)),
    )
