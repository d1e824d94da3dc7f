"""Samples images with the stock diffusers pipeline, each from its own seed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidlsg.runtime.errors import NotFiniteError
from sidlsg.runtime.hardware import best_device, plain_float32
from sidlsg.teacher.config import family_in, read_configs
from sidlsg.teacher.families.family import FLOW_TIMES, Family
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.images import NOT_FINITE, Images
from sidlsg.teacher.pipeline import load_pipeline
from sidlsg.teacher.setting import Setting, StudentSetting

PIXELS = 64 * 32 * 32
"""Maximum pixels per batch for small images."""
LARGE_BATCH = 16
"""Batch size for larger images."""


class StockSampler:
    """A diffusers folder, sampled with diffusers alone, as its users do."""

    def __init__(self, folder: Path, device: torch.device | None = None, half: bool = False, sha256: str = "") -> None:
        """Args:
        folder: of a family's pipeline.
        device: of the networks and the noise; the best one by default.
        half: use the family's half precision, as the published protocols do on a GPU.
        sha256: the model's digest if it is known; empty to compute it.

        Raises:
            InputError: the folder cannot be used.
        """
        device = best_device() if device is None else device
        pipeline = load_pipeline(folder)
        self.family = family_in(folder)
        precision = self.family.half if half else "float32"
        self.pipeline = pipeline.to(device, getattr(torch, precision))
        configs = read_configs(folder)
        self._side, self._called = self.family.image_side(configs), self.family.called(configs)
        self.network.to(memory_format=torch.channels_last)
        self.device = device
        self.identity = f"{sha256 or folder_digest(folder)} {device.type} {precision}"
        """What an image depends on besides prompt, seed and setting."""

    @property
    def network(self) -> Any:
        """The one that is distilled."""
        return getattr(self.pipeline, self.family.network)

    @property
    def image_size(self) -> int:
        """Pixels on each side of its images."""
        return self._side

    @property
    def batch(self) -> int:
        """Batch size."""
        return PIXELS // self.image_size**2 or LARGE_BATCH

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], setting: Setting) -> Images:
        """N prompts and N seeds to [N, H, W, 3] uint8 images.

        An image depends on its prompt and its seed alone, except for rounding: libraries choose kernels by the batch's
        shape, so a value may differ by one from that of an image sampled alone.
        """
        return (self.pixels(prompts, seeds, setting) * 255).round().astype(np.uint8)

    def pixels(self, prompts: Sequence[str], seeds: Sequence[int], setting: Setting) -> NDArray[np.float32]:
        """The same images in [0, 1] float32."""
        parts, called = [], self._called | stock_steps(self.family, setting)
        called |= self.family.guided(setting.guidance_scale)
        for start in range(0, len(prompts), self.batch):
            chosen = slice(start, start + self.batch)
            generators = _generators(seeds[chosen], self.device)
            if isinstance(setting, StudentSetting) and setting.noise_scale != 1:
                shape = self.family.latent_shape(self.network.config)
                noise = setting.noise_scale * _noise(generators, shape, self.device)
                called["latents"] = noise.to(self.network.dtype)
            # With TF32, which torch allows by default, an image would depend on the batch size.
            with plain_float32(self.device), self._stepping_with(generators):
                sampled = self.pipeline(
                    list(prompts[chosen]),
                    generator=generators,
                    output_type="np",
                    **called,
                )
            if not np.isfinite(sampled.images).all():
                raise NotFiniteError(f"{NOT_FINITE} at {setting.steps} steps and guidance {setting.guidance_scale:g}")
            parts.append(sampled.images)
        return np.concatenate(parts)

    @contextlib.contextmanager
    def _stepping_with(self, generators: list[torch.Generator]) -> Iterator[None]:
        """Give a flow's steps their noise from the images' generators; not every pipeline does.

        For one image that is what torch's own generator gives after `torch.manual_seed`, without any given.
        """
        if not self.family.flows:
            yield
            return
        scheduler = self.pipeline.scheduler
        step = scheduler.step
        scheduler.step = functools.partial(step, generator=generators)
        try:
            yield
        finally:
            scheduler.step = step


def stock_steps(family: Family, setting: Setting) -> dict[str, Any]:
    """The arguments of a stock pipeline's call that say at which noise levels it samples."""
    if not isinstance(setting, StudentSetting):
        return {"num_inference_steps": setting.steps}
    if family.flows:
        return {"sigmas": [t / FLOW_TIMES for t in setting.timesteps]}
    return {"timesteps": list(setting.timesteps)}


def seeded_noise(
    seeds: Sequence[int], shape: tuple[int, int, int], steps: int = 1, device: torch.device | str = "cpu"
) -> Tensor:
    """[steps, N, C, H, W] standard normal noise, that of each image from its own seed.

    They are the stock pipeline's for `torch.Generator(device).manual_seed(seed)`, so that diffusers alone
    reproduces each image. A GPU generates other numbers than the CPU.
    """
    generators = _generators(seeds, device)
    return torch.stack([_noise(generators, shape, device) for _ in range(steps)])


def _generators(seeds: Sequence[int], device: torch.device | str) -> list[torch.Generator]:
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def _noise(generators: list[torch.Generator], shape: tuple[int, int, int], device: torch.device | str) -> Tensor:
    return torch.stack([torch.randn(shape, generator=g, device=device) for g in generators])
