"""Sample grids along the way: the same prompts and noises each time, so that pictures differ by training alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sidlsg.distil.sampler import generate_latents
from sidlsg.randomness import counted
from sidlsg.teacher.images import Images, decode, grid, save_png
from sidlsg.teacher.schedule import NoiseSchedule

IMAGES = 36
COLUMNS = 6


class GridDrawer:
    """Draws and keeps `grids/<images seen>.png`."""

    def __init__(
        self,
        *,
        folder: Path | None,
        vae: Any,
        schedule: NoiseSchedule,
        encode: Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor]],
        prompt_count: int,
        latent_shape: tuple[int, int, int],
        t_init: int,
        seed: int,
        at_once: int,
    ) -> None:
        """Args:
        folder: receives the pictures; None in a process that writes none.
        vae: on any device; it is borrowed for the time of a picture.
        schedule: on the networks' device.
        encode: prompt indices to text states.
        prompt_count: how many prompts there are.
        latent_shape: (C, H, W).
        t_init: the timestep of the one step.
        seed: the run's.
        at_once: images in memory at once.
        """
        self.folder, self.vae, self.schedule, self.t_init, self.at_once = folder, vae, schedule, t_init, at_once
        places = counted(seed, "distil/grid/prompts").choice(prompt_count, IMAGES, replace=prompt_count < IMAGES)
        # On the host: they are needed seldom.
        self.cond = encode([int(place) for place in places], [False] * IMAGES)[0].cpu()
        z = counted(seed, "distil/grid/z").standard_normal((IMAGES, *latent_shape), dtype="float32")
        self.z = torch.from_numpy(z)

    @torch.no_grad()
    def images(self, unet: Callable[..., Any]) -> Images:
        """[N, H, W, 3] uint8: one-step samples of a network."""
        device = self.schedule.alphas_cumprod.device
        parts = zip(torch.split(self.z, self.at_once), torch.split(self.cond, self.at_once), strict=True)
        latents = [generate_latents(unet, self.schedule, z.to(device), c.to(device), self.t_init) for z, c in parts]
        home = next(self.vae.parameters()).device
        self.vae.to(device)
        try:
            return decode(self.vae, torch.cat(latents), self.at_once)
        finally:
            self.vae.to(home)

    def draw(self, unet: Callable[..., Any], images_seen: int) -> Image.Image:
        """Draw and keep the grid of a network."""
        picture = grid(self.images(unet), COLUMNS)
        if self.folder is not None:
            save_png(picture, self.folder / f"{images_seen:09d}.png")
        return picture
