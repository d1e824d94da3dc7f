"""Latents of real images: encoded by the teacher's VAE, written in shards, and read by index for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError, NotFiniteError
from sidlsg.runtime.randomness import counted
from sidlsg.storage.files import sha256_files
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.tensors import save_tensors
from sidlsg.teacher.folder import model_files
from sidlsg.teacher.images import Images, pixels_of
from sidlsg.teacher.shards import BLOCK, MappedShards, ShardFormat

KEY = "latents"
"""The tensor of a shard: [n, C, H, W] float16, in the order of the captions."""
SHARDS = ShardFormat(record=RealImageSet.FILE, what="latents", stage="`sidlsg images encode`")
MOST_ENCODED = 32
"""The VAE's batch size; an image's last bits depend on it."""


def vae_digest(folder: Path) -> str:
    """SHA-256 over the VAE's model files, which determine an image's latents."""
    return sha256_files(folder, [path for path in model_files(folder) if path.parent.name == "vae"])


@torch.no_grad()
def encode_images(vae: Any, images: Images, first: int, device: torch.device) -> Tensor:
    """[N, H, W, 3] uint8 sRGB to [N, C, h, w] float16 latents: samples of the VAE's posterior, scaled for the network.

    Teachers are trained on samples. Means have a smaller spread, by which alone a discriminator would tell them from
    the student's. A VAE without posterior, such as SANA's, gives its latents themselves.

    Args:
        vae: the teacher's.
        images: the images.
        first: the number of the first; the noise of a sample follows from its number.
        device: the VAE's.

    Raises:
        NotFiniteError: the latents of an image are not finite.
    """
    parts, shift = [], getattr(vae.config, "shift_factor", None) or 0.0
    for start in range(0, len(images), MOST_ENCODED):
        encoded = vae.encode(pixels_of(images[start : start + MOST_ENCODED]).to(device))
        samples = _sampled(encoded.latent_dist, first + start) if "latent_dist" in encoded else encoded.latent
        latents = (samples - shift) * vae.config.scaling_factor
        parts.append(latents.to("cpu", torch.float16))
    latents = torch.cat(parts)
    if not torch.isfinite(latents).all():
        raise NotFiniteError("the VAE gives latents that are not finite in float16; give a teacher with another VAE")
    return latents


def _sampled(posterior: Any, first: int) -> Tensor:
    """Samples of a posterior, the noise of each by its number from `first` on."""
    shape, numbers = posterior.mean.shape[1:], range(first, first + len(posterior.mean))
    noise = np.stack([counted(0, "real images", n).standard_normal(shape, np.float32) for n in numbers])
    samples: Tensor = posterior.mean + posterior.std * torch.from_numpy(noise).to(posterior.mean.device)
    return samples


def write_latents(path: Path, latents: Tensor) -> None:
    """Write a shard, complete or not at all; equal latents give equal bytes."""
    save_tensors(path, {KEY: latents}, {})


class LatentReader:
    """Reads latents by image index from mapped shards."""

    def __init__(self, folder: Path, vae_sha256: str, shape: tuple[int, int, int], device: torch.device | str) -> None:
        """Args:
        folder: of a RealImageSet.
        vae_sha256: digest of the teacher's VAE.
        shape: (C, H, W) of the teacher's latents.
        device: of the results.

        Raises:
            InputError: the set is of another VAE or size, or incomplete.
        """
        record = RealImageSet.load(folder)
        if record.vae_sha256 != vae_sha256 or record.shape != shape:
            raise InputError(
                f"{folder} holds latents {record.shape} of the VAE {record.vae_sha256[:16]}…, but the teacher's are "
                f"{shape} of {vae_sha256[:16]}…; run `sidlsg images encode` again with this teacher"
            )
        if not record.count or len(record.shards) != -(-record.count // BLOCK):
            raise InputError(
                f"{folder} names {len(record.shards)} shards for {record.count:,} images; "
                "run `sidlsg images encode` again"
            )
        self.count, self.device = record.count, torch.device(device)
        self._rows = MappedShards(folder, record.shards, record.count, {KEY: record.shape}, torch.float16, SHARDS)

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """[B, C, H, W] latents in float32 on the device.

        Raises:
            InputError: a shard is missing, changed or damaged.
        """
        rows = torch.stack([self._rows[index][KEY] for index in indices])
        on_gpu = self.device.type == "cuda"
        return (rows.pin_memory() if on_gpu else rows).to(self.device, non_blocking=on_gpu).to(torch.float32)
