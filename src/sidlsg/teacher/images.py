"""Latents to images, and images to grids."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sidlsg.runtime.errors import NotFiniteError
from sidlsg.storage.files import atomic_write

Images = NDArray[np.uint8]


MOST_DECODED = 64
"""The VAE's batch size."""
NOT_FINITE = "the model generates images that are not finite"


@torch.no_grad()
def decode(vae: Any, latents: Tensor, batch: int = MOST_DECODED) -> Images:
    """[N, C, h, w] latents to [N, H, W, 3] uint8 sRGB, rounded as diffusers rounds.

    Raises:
        NotFiniteError: an image is not finite; in uint8 it would be black.
    """
    parts, shift = [], getattr(vae.config, "shift_factor", None)
    for part in torch.split(latents.float(), batch):
        part = part / vae.config.scaling_factor
        pixels = vae.decode(part if shift is None else part + shift).sample
        if not torch.isfinite(pixels).all():
            raise NotFiniteError(NOT_FINITE)
        pixels = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        # A device may have no memory for all images in float32.
        parts.append((pixels * 255).round().to(torch.uint8).cpu())
    return np.asarray(torch.cat(parts).numpy())


def pixels_of(images: Images) -> Tensor:
    """[N, H, W, 3] uint8 to [N, 3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def grid(images: Images, columns: int, enlarge: int = 1) -> Image.Image:
    """Arrange [N, H, W, 3] images row by row with a thin gap."""
    n, height, width, _ = images.shape
    rows, gap = -(-n // columns), 1
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    whole = Image.fromarray(canvas)
    return whole.resize((whole.width * enlarge, whole.height * enlarge), Image.Resampling.NEAREST)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG, making its folder."""
    atomic_write(path, png_bytes(image))


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
