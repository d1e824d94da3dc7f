"""How much of the devices' arithmetic a training run uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from sidlsg.distil.draws import UPDATES
from sidlsg.distil.estimate.devices import gpu_at_hand
from sidlsg.distil.estimate.iteration import ImaginedIteration
from sidlsg.distil.recipes import Recipe


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
    iteration = ImaginedIteration(config, recipe, replace(recipe.settings, activation_checkpointing=False), gpu=True)
    flops = sum(iteration.run(update, 1, again=False).flops for update in UPDATES)
    return Utilisation(flops_per_image=float(flops), device_peak=peak, world_size=world_size)
