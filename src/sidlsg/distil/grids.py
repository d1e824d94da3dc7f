"""Sample grids during training: the same prompts and noises each time, so that images differ by training alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.sampler import generate_latents
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.conditioning import Conditioning, mapped
from sidlsg.teacher.embeddings import TextEmbeddings
from sidlsg.teacher.families.family import pixels_of_latent
from sidlsg.teacher.images import Images, decode, grid, save_png
from sidlsg.teacher.schedule import Schedule

IMAGES = 36
COLUMNS = 6
PIXELS = 2**20
"""Pixels that the VAE decodes at once: networks in training leave little memory for more."""


class FixedSamples:
    """Fixed prompts and noises, from which a network samples images that differ by its weights alone."""

    def __init__(
        self,
        *,
        vae: Any,
        schedule: Schedule,
        z: Tensor,
        cond: Conditioning,
        steps: FewSteps,
        at_once: int,
        noises: Tensor | None = None,
    ) -> None:
        """Args:
        vae: on any device; it moves to the latents' device while it decodes.
        schedule: on the networks' device.
        z: [N, C, h, w] noise.
        cond: [N, L, D] text embeddings.
        steps: the student's.
        at_once: images in memory at once.
        noises: [K-1, N, C, h, w] noise of the later steps, where they need fresh noise.
        """
        self.vae, self.schedule, self.steps, self.at_once = vae, schedule, steps, at_once
        # On the host: they are needed seldom.
        self.z, self.cond = z.cpu(), mapped(Tensor.cpu, cond)
        self.noises = torch.empty(0, *z.shape) if noises is None else noises.cpu()

    def parts(self, chosen: slice = slice(None)) -> Iterator[tuple[Tensor, Conditioning, Tensor]]:
        """(z, cond, noises) of all samples or some, in parts of `at_once`, on the networks' device."""
        device = self.schedule.device
        numbers = range(len(self.z))[chosen]
        for start in range(0, len(numbers), self.at_once):
            part = list(numbers[start : start + self.at_once])
            cond = mapped(lambda each, part=part: each[part].to(device), self.cond)
            yield self.z[part].to(device), cond, self.noises[:, part].to(device)

    @torch.no_grad()
    def images(self, unet: Callable[..., Any], chosen: slice = slice(None)) -> Images:
        """[N, H, W, 3] uint8: a network's samples in the student's steps, all of them or some."""
        steps = self.steps
        latents = [
            generate_latents(unet, self.schedule, z, cond, steps.t_init, steps.count, noises, step_noise=steps.noise)
            for z, cond, noises in self.parts(chosen)
        ]
        return self.decoded(torch.cat(latents))

    def decoded(self, latents: Tensor) -> Images:
        """[N, H, W, 3] uint8 images of latents."""
        home = next(self.vae.parameters()).device
        self.vae.to(latents.device)
        try:
            side = latents.shape[-1] * pixels_of_latent(self.vae.config)
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
        steps: FewSteps,
        **shared: Any,
    ) -> None:
        """`folder` receives the grids, None in a process that writes none; `shared` is for `FixedSamples`."""
        indices = counted(seed, "distil/grid/prompts").choice(prompt_count, IMAGES, replace=prompt_count < IMAGES)
        z = counted(seed, "distil/grid/z").standard_normal((IMAGES, *latent_shape), dtype="float32")
        cond = encode([int(index) for index in indices], [False] * IMAGES)[0]
        fresh = (steps.fresh_noises(steps.count), IMAGES, *latent_shape)
        noises = counted(seed, "distil/grid/steps").standard_normal(fresh, dtype="float32")
        super().__init__(z=torch.from_numpy(z), cond=cond, steps=steps, noises=torch.from_numpy(noises), **shared)
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
