"""Images of the scenes domain, each a function of its caption, a seed and an index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sidlsg.bundled.figures import Floats, coverage, jittered, painted
from sidlsg.bundled.scenes.captions import Figure, Scene
from sidlsg.runtime.randomness import counted

IMAGE_SIZE = 64
"""Pixels on each side."""
RADIUS = {"small": 7.0, "large": 12.0}
"""Mean radius in pixels by size word."""
RADIUS_JITTER = 0.10
MARGIN = 1.0
"""Least distance in pixels of a figure from the image's edge, and half of that between figures."""
MAX_OFFSET = 6.0
"""Largest offset of a figure from the image's middle, across the axis along which the figures lie, in pixels."""


def draw(captions: Sequence[Scene], seed: int, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Draw one image per caption: [N, 64, 64, 3] uint8 sRGB.

    Positions, sizes and colour jitter of an image are a function of the seed and its index. The two captions of a scene
    give the same image.
    """
    scenes = [scene.in_reading_order for scene in captions]
    draws = np.stack([counted(seed, "scenes", index).random(16) for index in indices])
    jitter = 2 * draws - 1
    radii = np.stack(
        [_radius([s.first for s in scenes], jitter[:, 0]), _radius([s.second for s in scenes], jitter[:, 1])]
    )
    # What the figures leave free of the axis is divided at random: before the first, between them, after the second.
    free = IMAGE_SIZE - 4 * MARGIN - 2 * radii.sum(0)
    low, high = np.sort(draws[:, 2:4], axis=1).T
    along = np.stack([MARGIN + free * low + radii[0], IMAGE_SIZE - MARGIN - free * (1 - high) - radii[1]])
    across = IMAGE_SIZE / 2 + MAX_OFFSET * jitter[:, 4:6].T
    horizontal = np.array([scene.relation == "left of" for scene in scenes])
    centre_x, centre_y = np.where(horizontal, along, across), np.where(horizontal, across, along)
    image = jittered([s.background for s in scenes], jitter[:, 6:9])[:, None, None, :]
    for k, figures in enumerate([[s.first for s in scenes], [s.second for s in scenes]]):
        covered = coverage([f.shape for f in figures], centre_x[k], centre_y[k], radii[k], IMAGE_SIZE)
        image = painted(image, covered, jittered([f.colour for f in figures], jitter[:, 9 + 3 * k : 12 + 3 * k]))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _radius(figures: Sequence[Figure], jitter: Floats) -> Floats:
    return np.array([RADIUS[figure.size] for figure in figures]) * (1 + RADIUS_JITTER * jitter)
