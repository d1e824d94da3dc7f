"""Images of the shapes domain, each a function of its caption, a seed and an index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sidlsg.bundled.figures import coverage, jittered, painted
from sidlsg.bundled.shapes.captions import Caption
from sidlsg.runtime.randomness import counted

IMAGE_SIZE = 32
"""Pixels on each side."""
RADIUS = {"small": 6.0, "large": 10.5}
"""Mean radius in pixels by size word."""
RADIUS_JITTER = 0.10
MAX_OFFSET = 5.0
"""Largest offset of a shape from the image's centre along each axis, in pixels."""


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
    shape = coverage([c.shape for c in captions], centre_x, centre_y, radius, IMAGE_SIZE)
    background = jittered([c.background for c in captions], jitter[:, 6:9])[:, None, None, :]
    image = painted(background, shape, jittered([c.colour for c in captions], jitter[:, 3:6]))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
