"""Batches of freshly drawn shapes for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sidlsg.bundled.captions import Caption
from sidlsg.bundled.drawing import draw
from sidlsg.runtime.randomness import counted
from sidlsg.teacher.images import pixels_of


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """[N, H, W, 3] uint8 to [N, 3, H, W] float32 in [-1, 1], channels last."""
    return pixels_of(images).contiguous(memory_format=torch.channels_last)


def batch_of(
    captions: Sequence[Caption], seed: int, stream: str, iteration: int, batch: int
) -> tuple[list[Caption], torch.Tensor]:
    """Captions drawn at random from `captions` and their images, a function of the arguments alone.

    Returns:
        `batch` captions and [batch, 3, 32, 32] pixels in [-1, 1].
    """
    choice = counted(seed, f"{stream}/captions", iteration).integers(len(captions), size=batch)
    chosen = [captions[i] for i in choice]
    # Streams must not share images: the judge's samples are not the teacher's.
    image_seed = int(counted(seed, f"{stream}/images").integers(2**63))
    indices = range(iteration * batch, (iteration + 1) * batch)
    return chosen, to_pixels(draw(chosen, image_seed, indices))
