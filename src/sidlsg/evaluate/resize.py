"""Resizing for feature networks, the part of a protocol that changes FID the most; Pillow's filters are antialiased."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

SIDE = 256
"""The first size of both COCO protocols, in pixels."""
INCEPTION_SIDE = 299


def centre_square(image: Image.Image) -> Image.Image:
    """The largest centred square; half pixels are rounded to even, as in torchvision."""
    width, height = image.size
    side = min(width, height)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def to_256(image: Image.Image) -> Image.Image:
    """The centred square of an RGB image at 256 × 256, by Lanczos in 8 bits."""
    return centre_square(image).resize((SIDE, SIDE), Resampling.LANCZOS)


def clean_299(image: Image.Image) -> NDArray[np.float32]:
    """[3, 299, 299] in 0..255: each channel by itself, bicubic in float32, clipped and not rounded.

    Rounding to 8 bits here would move FID (Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN
    Evaluation").
    """
    channels = np.asarray(image, np.float32).transpose(2, 0, 1)
    large = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel), "F").resize(
                (INCEPTION_SIDE, INCEPTION_SIDE), Resampling.BICUBIC
            )
        )
        for channel in channels
    ]
    return np.stack(large).clip(0, 255)


def padded_square(image: Image.Image, side: int) -> Image.Image:
    """The longest side resized to `side`, bicubic, and the shorter one padded with black to a square."""
    width, height = image.size
    scale = side / max(width, height)
    small = image.resize((round(width * scale), round(height * scale)), Resampling.BICUBIC)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return canvas
