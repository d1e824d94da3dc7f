"""Figures that images of the bundled domains consist of: sizes, colours and shapes by name, and where a shape is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIZES = ("small", "large")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 50),
    "purple": (140, 60, 180),
    "orange": (245, 140, 40),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
"""8-bit sRGB of each colour name."""
COLOUR_JITTER = 0.03

Floats = NDArray[np.float64]


def jittered(colours: Sequence[str], jitter: Floats) -> Floats:
    """[N, 3] sRGB of N colours, each channel shifted by jitter in [-1, 1)."""
    return np.array([COLOURS[colour] for colour in colours]) + 255 * COLOUR_JITTER * jitter


def coverage(shapes: Sequence[str], centre_x: Floats, centre_y: Floats, radius: Floats, side: int) -> Floats:
    """[N, side, side, 1] share of each pixel that a shape covers; its edge is antialiased, one pixel wide."""
    pixel = np.arange(side) + 0.5
    x = pixel[None, None, :] - centre_x[:, None, None]
    y = pixel[None, :, None] - centre_y[:, None, None]
    distance = np.empty((len(shapes), side, side))
    for shape in SHAPES:
        rows = [i for i, each in enumerate(shapes) if each == shape]
        if rows:
            distance[rows] = signed_distance(shape, x[rows], y[rows], radius[rows, None, None])
    return np.clip(0.5 - distance, 0.0, 1.0)[..., None]


def painted(image: Floats, coverage: Floats, colours: Floats) -> Floats:
    """[N, H, W, 3] images with a figure of [N, 3] colours over them."""
    return coverage * colours[:, None, None, :] + (1 - coverage) * image


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
