"""Sample grids along the way: the same prompts and noises each time, so that pictures differ by training alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sidlsg.distil.sampler import generate_latents
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.images import Images, decode, grid, save_png
from sidlsg.teacher.schedule import NoiseSchedule

IMAGES = 36
COLUMNS = 6
PIXELS = 2**20
"""That the VAE decodes at once: beside networks in training there is little room for more."""


class Samples:
    """Fixed prompts and noises, from which a network draws the same pictures but for its weights."""

    def __init__(
        self, *, vae: Any, schedule: NoiseSchedule, z: Tensor, cond: Tensor, t_init: int, at_once: int
    ) -> None:
        """Args:
        vae: on any device; it is borrowed for the time of a picture.
        schedule: on the networks' device.
        z: [N, C, h, w] noise.
        cond: [N, L, D] text states.
        t_init: the timestep of the one step.
        at_once: images in memory at once.
        """
        self.vae, self.schedule, self.t_init, self.at_once = vae, schedule, t_init, at_once
        # On the host: they are needed seldom.
        self.z, self.cond = z.cpu(), cond.cpu()

    @torch.no_grad()
    def images(self, unet: Callable[..., Any], chosen: slice = slice(None)) -> Images:
        """[N, H, W, 3] uint8: one-step samples of a network, all of them or some."""
        device = self.schedule.alphas_cumprod.device
        parts = zip(
            torch.split(self.z[chosen], self.at_once), torch.split(self.cond[chosen], self.at_once), strict=True
        )
        latents = [generate_latents(unet, self.schedule, z.to(device), c.to(device), self.t_init) for z, c in parts]
        return self.decoded(torch.cat(latents))

    def decoded(self, latents: Tensor) -> Images:
        """[N, H, W, 3] uint8 pictures of latents."""
        home = next(self.vae.parameters()).device
        self.vae.to(latents.device)
        try:
            side = latents.shape[-1] * 2 ** (len(self.vae.config.block_out_channels) - 1)
            return decode(self.vae, latents, max(1, min(self.at_once, PIXELS // side**2)))
        finally:
            self.vae.to(home)


class GridDrawer(Samples):
    """Draws and keeps `grids/<images seen>.png`."""

    def __init__(
        self,
        *,
        folder: Path | None,
        encode: Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor]],
        prompt_count: int,
        latent_shape: tuple[int, int, int],
        seed: int,
        **shared: Any,
    ) -> None:
        """Args:
        folder: receives the pictures; None in a process that writes none.
        encode: prompt indices to text states.
        prompt_count: how many prompts there are.
        latent_shape: (C, H, W).
        seed: the run's.
        shared: what `Samples` takes besides.
        """
        places = counted(seed, "distil/grid/prompts").choice(prompt_count, IMAGES, replace=prompt_count < IMAGES)
        z = counted(seed, "distil/grid/z").standard_normal((IMAGES, *latent_shape), dtype="float32")
        cond = encode([int(place) for place in places], [False] * IMAGES)[0]
        super().__init__(z=torch.from_numpy(z), cond=cond, **shared)
        self.folder = folder

    def keep(self, images: Images, images_seen: int) -> Image.Image:
        """Lay pictures out as a grid, and keep it.

        Raises:
            OSError: it cannot be written.
        """
        picture = grid(images, COLUMNS)
        if self.folder is not None:
            save_png(picture, self.folder / f"{images_seen:09d}.png")
        return picture
