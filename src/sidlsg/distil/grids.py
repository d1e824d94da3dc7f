"""Sample grids during training: the same prompts and noises each time, so that images differ by training alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sidlsg.distil.sampler import generate_latents
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.embeddings import TextEmbeddings
from sidlsg.teacher.images import Images, decode, grid, save_png
from sidlsg.teacher.schedule import NoiseSchedule

IMAGES = 36
COLUMNS = 6
PIXELS = 2**20
"""Pixels that the VAE decodes at once: networks in training leave little memory for more."""


class FixedSamples:
    """Fixed prompts and noises, from which a network samples images that differ by its weights alone."""

    def __init__(
        self, *, vae: Any, schedule: NoiseSchedule, z: Tensor, cond: Tensor, t_init: int, at_once: int
    ) -> None:
        """Args:
        vae: on any device; it moves to the latents' device while it decodes.
        schedule: on the networks' device.
        z: [N, C, h, w] noise.
        cond: [N, L, D] text embeddings.
        t_init: the timestep of the one step.
        at_once: images in memory at once.
        """
        self.vae, self.schedule, self.t_init, self.at_once = vae, schedule, t_init, at_once
        # On the host: they are needed seldom.
        self.z, self.cond = z.cpu(), cond.cpu()

    def parts(self, chosen: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """(z, cond) of all samples or some, in parts of `at_once`, on the networks' device."""
        device = self.schedule.alphas_cumprod.device
        split = (torch.split(each[chosen], self.at_once) for each in (self.z, self.cond))
        for z, cond in zip(*split, strict=True):
            yield z.to(device), cond.to(device)

    @torch.no_grad()
    def images(self, unet: Callable[..., Any], chosen: slice = slice(None)) -> Images:
        """[N, H, W, 3] uint8: one-step samples of a network, all of them or some."""
        latents = [generate_latents(unet, self.schedule, z, cond, self.t_init) for z, cond in self.parts(chosen)]
        return self.decoded(torch.cat(latents))

    def decoded(self, latents: Tensor) -> Images:
        """[N, H, W, 3] uint8 images of latents."""
        home = next(self.vae.parameters()).device
        self.vae.to(latents.device)
        try:
            side = latents.shape[-1] * 2 ** (len(self.vae.config.block_out_channels) - 1)
            return decode(self.vae, latents, max(1, min(self.at_once, PIXELS // side**2)))
        finally:
            self.vae.to(home)


class GridSampler(FixedSamples):
    """Samples a run's grid, and keeps it as `<images seen>.png`."""

    def __init__(
        self,
        *,
        folder: Path | None,
        encode: TextEmbeddings,
        prompt_count: int,
        latent_shape: tuple[int, int, int],
        seed: int,
        **shared: Any,
    ) -> None:
        """`folder` receives the grids, None in a process that writes none; `shared` is for `FixedSamples`."""
        indices = counted(seed, "distil/grid/prompts").choice(prompt_count, IMAGES, replace=prompt_count < IMAGES)
        z = counted(seed, "distil/grid/z").standard_normal((IMAGES, *latent_shape), dtype="float32")
        cond = encode([int(index) for index in indices], [False] * IMAGES)[0]
        super().__init__(z=torch.from_numpy(z), cond=cond, **shared)
        self.folder = folder

    def keep(self, images: Images, images_seen: int) -> Image.Image:
        """Lay images out as a grid, and keep it.

        Raises:
            OSError: it cannot be written.
        """
        laid_out = grid(images, COLUMNS)
        if self.folder is not None:
            save_png(laid_out, self.folder / f"{images_seen:09d}.png")
        return laid_out
