"""How much of the devices' arithmetic a training run uses."""

from __future__ import annotations

from dataclasses import dataclass


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
