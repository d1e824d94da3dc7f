"""Pixels: an encoded image becomes a square of the teacher's resolution."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sidlsg.runtime.errors import first_line


class UnusableImageError(Exception):
    """An image cannot be used; the message says why."""


class SmallImageError(UnusableImageError):
    """An image is smaller than the teacher's resolution, and enlarging it would teach blur."""


def square(data: bytes, size: int) -> NDArray[np.uint8]:
    """[size, size, 3] sRGB: turned upright, on white where it is transparent, shrunk and cut to a centred square.

    The shorter side is resized to `size` by Pillow's bicubic filter, which averages over the pixels that it shrinks.

    Raises:
        UnusableImageError: it cannot be decoded, or its shorter side is shorter than `size`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.has_transparency_data:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                image = image.convert("RGB")
    except Exception as error:  # for a damaged image the library raises nearly any type
        raise UnusableImageError(first_line(error)) from error
    width, height = image.size
    if min(width, height) < size:
        raise SmallImageError(f"{width} × {height} pixels")
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    image = image.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return np.asarray(image)
