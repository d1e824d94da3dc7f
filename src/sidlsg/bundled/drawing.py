"""Images of the shapes domain, each a function of its caption, a seed and an index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sidlsg.bundled.captions import COLOURS, SHAPES, Caption
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.images import pixels_of

IMAGE_SIZE = 32
"""Pixels on each side."""
RADIUS = {"small": 6.0, "large": 10.5}
"""Mean radius in pixels by size word."""
RADIUS_JITTER = 0.10
COLOUR_JITTER = 0.03
MAX_OFFSET = 5.0
"""Largest offset of a shape from the image's centre along each axis, in pixels."""

Floats = NDArray[np.float64]


def draw(captions: Sequence[Caption], seed: int, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Draw one image per caption: [N, 32, 32, 3] uint8 sRGB.

    Position, size and colour jitter of an image are a function of the seed and its index.
    """
    # One row per image: radius, x, y, three channels of shape colour, three of background; all uniform in [-1, 1).
    jitter = 2 * np.stack([counted(seed, "shapes", index).random(9) for index in indices]) - 1
    radius = np.array([RADIUS[c.size] for c in captions]) * (1 + RADIUS_JITTER * jitter[:, 0])
    offset = np.minimum(MAX_OFFSET, IMAGE_SIZE / 2 - radius)
    centre_x = IMAGE_SIZE / 2 + offset * jitter[:, 1]
    centre_y = IMAGE_SIZE / 2 + offset * jitter[:, 2]
    foreground = np.array([COLOURS[c.colour] for c in captions]) + 255 * COLOUR_JITTER * jitter[:, 3:6]
    background = np.array([COLOURS[c.background] for c in captions]) + 255 * COLOUR_JITTER * jitter[:, 6:9]

    pixel = np.arange(IMAGE_SIZE) + 0.5
    x = pixel[None, None, :] - centre_x[:, None, None]
    y = pixel[None, :, None] - centre_y[:, None, None]
    distance = np.empty((len(captions), IMAGE_SIZE, IMAGE_SIZE))
    for shape in SHAPES:
        rows = [i for i, c in enumerate(captions) if c.shape == shape]
        if rows:
            distance[rows] = signed_distance(shape, x[rows], y[rows], radius[rows, None, None])
    coverage = np.clip(0.5 - distance, 0.0, 1.0)[..., None]  # antialiased: one pixel wide edge
    image = coverage * foreground[:, None, None, :] + (1 - coverage) * background[:, None, None, :]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def signed_distance(shape: str, x: Floats, y: Floats, radius: Floats) -> Floats:
    """Distance in pixels from (x, y) to the shape's edge, negative inside; a shape lies within its radius."""
    # Broadcast first: formulas below use x and y in different combinations.
    x, y = np.broadcast_arrays(x, y)
    if shape == "circle":
        return np.asarray(np.hypot(x, y) - radius)
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.85 * radius
    if shape == "triangle":
        half = math.sqrt(3) / 2
        return np.maximum(np.maximum(half * x - y / 2, -half * x - y / 2), y) - radius / 2
    if shape == "cross":
        arm = 0.33 * radius
        return np.minimum(
            np.maximum(abs(x) - radius, abs(y) - arm),
            np.maximum(abs(x) - arm, abs(y) - radius),
        )
    if shape == "ring":
        return np.asarray(abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius)
    if shape == "diamond":
        return (abs(x) + abs(y) - radius) / math.sqrt(2)
    raise ValueError(f"shape {shape!r} is unknown; allowed: {', '.join(SHAPES)}")


def batch_of(
    captions: Sequence[Caption], seed: int, stream: str, iteration: int, batch: int
) -> tuple[list[Caption], torch.Tensor]:
    """Random captions, and [batch, 3, 32, 32] pixels in [-1, 1] of their images."""
    choice = counted(seed, f"{stream}/captions", iteration).integers(len(captions), size=batch)
    chosen = [captions[i] for i in choice]
    # Streams do not share images: the judge is not trained on those of the teacher.
    image_seed = int(counted(seed, f"{stream}/images").integers(2**63))
    indices = range(iteration * batch, (iteration + 1) * batch)
    pixels = pixels_of(draw(chosen, image_seed, indices))
    return chosen, pixels.contiguous(memory_format=torch.channels_last)
