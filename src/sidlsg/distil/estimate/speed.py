"""How long an iteration takes, from its FLOPs, an assumed MFU, and the traffic of offloading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from sidlsg.distil.estimate.devices import local_gpu
from sidlsg.distil.estimate.iteration import FakeIteration
from sidlsg.distil.estimate.memory import FLOAT32, Use
from sidlsg.distil.recipes import Recipe
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.architectures import Architecture

MFU = 0.2
"""Model FLOPs utilisation that a run is assumed to reach: measured on an H200 in bf16, 0.19 to 0.21, not compiled."""
BUS = 20e9
"""Assumed bytes/s between device and host: PCIe 4 with 16 lanes, less overhead."""
HOST = 10e9
"""Assumed bytes/s at which the host averages weights; each is read twice and written once."""


def iteration_seconds(use: Use, flops: float, batch: int, peak: float, mfu: float) -> float:
    """Seconds of an iteration.

    Args:
        use: settings, network and processes.
        flops: of an iteration, per image.
        batch: the global batch.
        peak: FLOP/s of each process's GPU.
        mfu: the assumed share of the peak.

    Raises:
        InputError: `mfu` is out of range.
    """
    if not 0 < mfu <= 1:
        raise InputError(f"mfu is {mfu}; allowed: above 0, at most 1, a share of the GPU's peak")
    seconds = batch / use.world_size * flops / (peak * mfu)
    weights = FLOAT32 * use.network.trained
    if use.settings.optimizer_offload:
        seconds += 2 * 2 * weights / BUS  # two networks' states, there and back
    if use.settings.ema_offload:
        seconds += weights / BUS + 3 * weights / HOST
    return seconds


def mfu_of(
    shape: Architecture, recipe: Recipe, world_size: int, device: torch.device
) -> Callable[[float], float] | None:
    """The model FLOPs utilisation of a run by its images/s; None where the device's peak is unknown, as for a CPU.

    Args:
        shape: the teacher's.
        recipe: with the guidance and precision.
        world_size: devices, all of the same kind.
        device: one of them.
    """
    peak = local_gpu(device).peaks.get(recipe.precision) if device.type == "cuda" else None
    if peak is None:
        return None
    # Recomputed activations are not the model's work.
    iteration = FakeIteration(shape, recipe, replace(recipe.settings, activation_checkpointing=False), gpu=True)
    flops = iteration.flops()
    return lambda images_per_second: images_per_second * flops / (peak * world_size)
