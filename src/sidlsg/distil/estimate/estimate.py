"""The estimate of a run: memory by part, the largest micro-batch, time, money, and the options that would help."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from sidlsg.distil.estimate.devices import Gpu, gpu_at_hand
from sidlsg.distil.estimate.iteration import IterationNeeds, measure
from sidlsg.distil.estimate.memory import Network, Use, upper_bound
from sidlsg.distil.estimate.speed import MFU, iteration_seconds
from sidlsg.distil.recipes import Recipe, Settings
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import host_memory

OPTIONS: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adam", "adam8bit"),
    "activation_checkpointing": (False, True),
    "optimizer_offload": (False, True),
    "ema_offload": (False, True),
}
"""What may be changed without changing the method, and its values."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A set of options and what it does."""

    settings: Settings
    micro_batch: int
    """The largest that fits; 0 for none."""
    seconds: float
    """Of an iteration, by which choices compare."""

    def flags(self, recipe: Settings) -> str:
        """The `--set` options that turn a recipe's settings into these."""
        changed = {name: getattr(self.settings, name) for name in OPTIONS}
        words = [
            f"--set {name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in changed.items()
            if value != getattr(recipe, name)
        ]
        return " ".join(words)


def choices(
    use: Use,
    passes: Callable[[bool], IterationNeeds],
    available: int,
    most: int,
    seconds: Callable[[Use], float],
) -> list[Choice]:
    """Every set of options, cheapest first: 8-bit states last, because they round; the rest by time.

    Args:
        use: whose settings are varied.
        passes: measured with activation checkpointing or without.
        available: bytes of the device.
        most: samples of one process in a batch.
        seconds: of an iteration.
    """
    found = []
    for values in itertools.product(*OPTIONS.values()):
        try:
            settings = replace(use.settings, **dict(zip(OPTIONS, values, strict=True)))
        except InputError:
            continue  # options that exclude each other
        varied = replace(use, settings=settings)
        measured = passes(settings.activation_checkpointing)
        found.append(
            Choice(
                settings=settings,
                micro_batch=varied.largest_micro_batch(measured, available, most),
                seconds=seconds(varied),
            )
        )
    return sorted(found, key=lambda choice: (choice.settings.optimizer == "adam8bit", choice.seconds))


def cheapest(found: list[Choice], micro_batch: int) -> Choice | None:
    """The first choice that lets so many samples in at once."""
    return next((choice for choice in found if choice.micro_batch >= micro_batch), None)


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
    def passes(again: bool) -> IterationNeeds:
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


def check_fits(
    unet_config: Mapping[str, Any],
    recipe: Recipe,
    world_size: int,
    device: torch.device,
    text_encoder_parameters: int,
    report: Callable[[str], None],
) -> None:
    """Say in one line what a run needs, and refuse one that cannot fit.

    Small networks are let through by an upper bound, which takes a fraction of a second; others are imagined, which
    takes up to half a minute.

    Args:
        unet_config: of the teacher's UNet.
        recipe: what is to run.
        world_size: processes that train together.
        device: this process's.
        text_encoder_parameters: of the text encoder where it encodes during training, else 0.
        report: receives the line.

    Raises:
        InputError: the run cannot fit; the message names the options with which it would.
    """
    on_host = device.type != "cuda"
    at_hand = _host() if on_host else _free(device)
    if at_hand is None:
        return  # the system does not say how much memory it has
    share = max(1, recipe.batch // world_size)
    use = Use(
        network=Network.of(unet_config),
        settings=recipe.settings,
        world_size=world_size,
        text_encoder=text_encoder_parameters,
        gpu=not on_host,
    )
    bound = upper_bound(unet_config, use, min(share, recipe.micro_batch))
    if bound <= at_hand.memory:
        report(f"memory: at most {_gb(bound)} of the {_gb(at_hand.memory)} GB that are free on {at_hand.name}")
        return
    found = estimate(
        unet_config,
        recipe,
        at_hand,
        world_size=world_size,
        text_encoder=text_encoder_parameters,
        on_host=on_host,
        advise=False,
        report=report,
    )
    if not found.fits:
        lack = (
            f"recipe {recipe.name!r} at micro_batch {found.micro_batch} needs about {_gb(found.total)} GB on "
            f"{at_hand.name}, where {_gb(at_hand.memory)} GB are free; what would fit: {found.advice}"
        )
        if recipe.memory_check == "refuse":
            raise InputError(f"{lack}; or --set memory_check=warn to try all the same")
        report(lack)
        return
    report(_line(found))


def _line(found: Estimate) -> str:
    line = f"memory: about {_gb(found.total)} of the {_gb(found.gpu.memory)} GB that are free on {found.gpu.name}"
    if found.images_per_second is not None:
        line += f"; {found.images_per_second:.3g} images/s if {found.mfu:.0%} of its peak are reached (assumed)"
    return line


def _host() -> Gpu | None:
    memory = host_memory()
    return None if memory is None else Gpu(name="this machine", memory=memory, peaks={})


def _free(device: torch.device) -> Gpu:
    """The device with what this process may take of it; what others hold is gone."""
    gpu = gpu_at_hand(device)
    free, _ = torch.cuda.mem_get_info(device)
    return Gpu(name=gpu.name, memory=free + torch.cuda.memory_reserved(device), peaks=gpu.peaks)


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g}"
