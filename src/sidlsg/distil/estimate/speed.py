"""How long a run takes: floating-point operations by an assumed share of the device's peak, and offloading."""

from __future__ import annotations

from sidlsg.distil.estimate.memory import FLOAT32, Use
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
