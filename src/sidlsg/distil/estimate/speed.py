"""How long a run takes: floating-point operations by an assumed share of the device's peak, and offloading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from sidlsg.distil.draws import UPDATES
from sidlsg.distil.estimate.devices import gpu_at_hand
from sidlsg.distil.estimate.iteration import FakeIteration
from sidlsg.distil.estimate.memory import FLOAT32, Use
from sidlsg.distil.recipes import Recipe
from sidlsg.runtime.errors import InputError

MFU = 0.2
"""The share of a GPU's peak that a run is assumed to reach: measured on an H200 in bf16, 0.19 to 0.21, not compiled."""
BUS = 20e9
"""Assumed bytes a second between device and host: PCIe 4 with 16 lanes, less overhead."""
HOST = 10e9
"""Assumed bytes a second that the host averages; each weight is read twice and written once."""


def iteration_seconds(use: Use, flops: float, batch: int, peak: float, mfu: float) -> float:
    """How long an iteration takes if the device reaches this share of its peak.

    Args:
        use: settings, size and processes.
        flops: of an iteration, per image.
        batch: the global batch.
        peak: FLOP/s at most of each process's GPU.
        mfu: the share of the peak, an assumption.

    Raises:
        InputError: the share is none.
    """
    if not 0 < mfu <= 1:
        raise InputError(f"mfu is {mfu}; allowed: above 0, at most 1, a share of the GPU's peak")
    seconds = batch / use.world_size * flops / (peak * mfu)
    weights = FLOAT32 * use.network.parameters
    if use.settings.optimizer_offload:
        seconds += 2 * 2 * weights / BUS  # two networks' states, there and back
    if use.settings.ema_offload:
        seconds += weights / BUS + 3 * weights / HOST
    return seconds


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """Turns images a second into model FLOPs utilisation (MFU)."""

    flops_per_image: float
    """Floating-point operations of one whole iteration for one image, without what is computed twice to save memory."""
    device_peak: float
    """Floating-point operations a second of one device, dense, at the precision of the run."""
    world_size: int = 1
    """Devices."""

    def mfu(self, images_per_second: float) -> float:
        """The share of all devices' peak: 1 is all of it."""
        return images_per_second * self.flops_per_image / (self.device_peak * self.world_size)


def utilisation_of(
    config: Mapping[str, Any], recipe: Recipe, world_size: int, device: torch.device
) -> Utilisation | None:
    """What a run's speed means on its devices; None where their peak is not known, as for a CPU.

    Args:
        config: of the teacher's UNet.
        recipe: whose guidance and precision.
        world_size: devices.
        device: one of them; the others are taken to be its like.
    """
    peak = gpu_at_hand(device).peaks.get(recipe.precision) if device.type == "cuda" else None
    if peak is None:
        return None
    # What is computed twice to save memory is no work of the model's.
    iteration = FakeIteration(config, recipe, replace(recipe.settings, activation_checkpointing=False), gpu=True)
    flops = sum(iteration.run(update, 1, again=False).flops for update in UPDATES)
    return Utilisation(flops_per_image=float(flops), device_peak=peak, world_size=world_size)
