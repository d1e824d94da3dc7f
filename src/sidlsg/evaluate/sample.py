"""Draws evaluation images with the stock diffusers pipeline: image i for caption i from seed i."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sidlsg.export.generate import seeded_noise
from sidlsg.hardware import best_device
from sidlsg.progress import Meter
from sidlsg.teacher.images import Images
from sidlsg.teacher.load import load_pipeline

BATCH = 96


class StockSampler:
    """A diffusers folder, sampled with nothing but diffusers, as its users will."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: a `StableDiffusionPipeline` folder.

        Raises:
            InputError: the folder cannot be used.
        """
        self.pipeline = load_pipeline(folder).to(best_device())
        self.pipeline.unet.to(memory_format=torch.channels_last)

    @property
    def image_size(self) -> int:
        """Pixels on each side of its images."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def __call__(self, prompts: Sequence[str], steps: int, guidance_scale: float, label: str) -> Images:
        """Draw one image a prompt; the seed of each is its index.

        Args:
            prompts: N prompts.
            steps: inference steps.
            guidance_scale: classifier-free guidance where it is above 1.
            label: for the progress line.

        Returns:
            [N, H, W, 3] uint8.
        """
        return self.at(prompts, range(len(prompts)), steps, guidance_scale, label)

    def at(
        self, prompts: Sequence[str], places: Sequence[int], steps: int, guidance_scale: float, label: str
    ) -> Images:
        """Draw only the images at some places of the full set, the same as they are there."""
        config = self.pipeline.unet.config
        shape = (config.in_channels, config.sample_size, config.sample_size)
        parts = []
        with Meter(label, len(places), "images") as meter:
            for start in range(0, len(places), BATCH):
                chosen = places[start : start + BATCH]
                pixels = self.pipeline(
                    [prompts[i] for i in chosen],
                    num_inference_steps=steps,
                    guidance_scale=guidance_scale,
                    latents=seeded_noise(chosen, shape)[0].to(self.pipeline.device),
                    output_type="np",
                ).images
                parts.append((pixels * 255).round().astype(np.uint8))
                meter.update(start + len(chosen))
        return np.concatenate(parts)
