"""Checks whether a student's images are still like its teacher's, by a few statistics: noise, grey, one colour."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidlsg.distil.alarms import Alarm, diagnosis
from sidlsg.distil.grids import FixedSamples
from sidlsg.distil.guidance import guided_output
from sidlsg.distil.recipes import Recipe
from sidlsg.teacher.conditioning import Conditioning, mapped
from sidlsg.teacher.images import Images

CHECK_AFTER = (10, 25, 50, 100)
"""Iterations after which a check of the grid is worth its price, whether or not the grid is kept."""
REFERENCE_STEPS = 8
REFERENCE_GUIDANCE = (1.0, 4.5)
"""The range that κ4 is clipped to for the teacher's own images."""
DISTANCE = 5.0
"""Fréchet distance of the statistics, in the reference's own spread, to the nearer of two references."""
NOISE_CORRELATION = 0.25
"""Least correlation of neighbouring cells, as a share of the reference's. White noise has 0."""
LEAST_CONTRAST = 0.15
"""Least contrast within an image, and between images, as a share of the reference's."""
MOST_CLIPPED = 0.3
"""Share of values at the ends of the range, beyond the reference's."""
UNLIKE = "pictures-unlike-teacher"
LEAST_SPREAD = 0.05
"""Smallest spread to divide by: below it, differences that nobody sees would count."""


@dataclass(frozen=True, eq=False)
class ImageStatistics:
    """Statistics of a set of images, values from 0 to 1."""

    colour: NDArray[np.float64]
    """[N, 3]: each image's mean."""
    contrast: NDArray[np.float64]
    """[N, 3]: each image's standard deviation."""
    correlation: NDArray[np.float64]
    """[N, 2]: correlation of neighbouring pixels, and of neighbouring cells of a latent's size."""
    clipped: float
    """Share of values within 1 % of black or white."""

    @classmethod
    def of(cls, images: Images, cell: int) -> ImageStatistics:
        """The statistics of [N, H, W, 3] uint8 images of which a latent covers `cell` × `cell` pixels."""
        pixels = images.astype(np.float64) / 255
        n, height, width, _ = pixels.shape
        cells = pixels.reshape(n, height // cell, cell, width // cell, cell, 3).mean((2, 4))
        return cls(
            colour=pixels.mean((1, 2)),
            contrast=pixels.std((1, 2)),
            correlation=np.stack([_neighbours(pixels), _neighbours(cells)], axis=1),
            clipped=float(((pixels < 0.01) | (pixels > 0.99)).mean()),
        )

    @property
    def cells(self) -> float:
        """The median correlation of neighbouring cells."""
        return float(np.median(self.correlation[:, 1]))

    @property
    def variety(self) -> float:
        """How far the images' mean colours spread."""
        return float(self.colour.std(0).mean())

    def deviations(self, other: ImageStatistics) -> dict[str, float]:
        """By kind of statistic, its part of the Fréchet distance to another set, in units of that set's spread.

        Σ_i ((μ_i - μ'_i)² + (σ_i - σ'_i)²) / max(σ'_i, 0.05)²: each statistic by itself, since a grid has too few
        images for a covariance.
        """
        parts = {}
        for part in ("colour", "contrast", "correlation"):
            x, y = getattr(self, part), getattr(other, part)
            squares = np.square(x.mean(0) - y.mean(0)) + np.square(x.std(0) - y.std(0))
            parts[part] = float((squares / np.square(np.maximum(y.std(0), LEAST_SPREAD))).sum())
        return parts


def _neighbours(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] correlation of horizontal and vertical neighbours in each image; 1 in one without contrast."""
    deviation = pixels - pixels.mean((1, 2), keepdims=True)
    power = np.square(deviation).mean((1, 2, 3))
    across = np.square(np.diff(deviation, axis=2)).mean((1, 2, 3))
    down = np.square(np.diff(deviation, axis=1)).mean((1, 2, 3))
    # Half the mean square of the differences is the power less the covariance. 1e-6 is what rounding alone makes.
    return np.asarray(np.where(power < 1e-6, 1.0, 1 - (across + down) / 4 / np.maximum(power, 1e-6)))


class Appearance:
    """Compares the images of a grid with the teacher's own of the same prompts."""

    def __init__(self, recipe: Recipe, few_steps: Images, one_step: Images, cell: int) -> None:
        """Args:
        recipe: its values are named as causes.
        few_steps: [N, H, W, 3] what the student should come to look like; see `teacher_images`.
        one_step: [N, H, W, 3] the teacher's images in one step, which are blurred: what a student starts from.
        cell: pixels that one latent covers on each side.
        """
        self.recipe, self.cell = recipe, cell
        self.reference, self.start = (ImageStatistics.of(each, cell) for each in (few_steps, one_step))
        self.unlike = False

    def check(self, images: Images) -> list[Alarm]:
        """What is wrong with [N, H, W, 3] images of the student: nothing, or the plainest thing alone.

        Statistics that are unlike the teacher's count in the second check that finds them so: some strategies start
        with a detour of a few iterations.
        """
        found = self._plainest(ImageStatistics.of(images, self.cell))
        before, self.unlike = self.unlike, found is not None
        if found is None or (found[0] == UNLIKE and not before):
            return []
        name, seen, limit = found
        cause, advice = diagnosis(self.recipe)
        return [
            Alarm(name, f"the student's grid has {seen} ({limit})", cause, f"look at the newest grid, and {advice}")
        ]

    def _plainest(self, now: ImageStatistics) -> tuple[str, str, str] | None:
        """(name, what was seen, its limit)."""
        usual = self.reference
        contrast, least = float(now.contrast.mean()), LEAST_CONTRAST * float(usual.contrast.mean())
        least_variety = LEAST_CONTRAST * usual.variety
        least_cells = NOISE_CORRELATION * usual.cells
        if contrast < least:
            one = now.variety < least_variety
            seen = f"a contrast of {contrast:.3f}" + (f" and a variety of colour of {now.variety:.3f}" if one else "")
            return "pictures-one-colour" if one else "pictures-flat", seen, f"limit {least:.3f}"
        if now.cells < least_cells:
            seen = f"neighbouring parts that correlate at {now.cells:.2f}"
            return "pictures-noise", seen, f"limit {least_cells:.2f}; the teacher's do at {usual.cells:.2f}"
        if now.clipped > usual.clipped + MOST_CLIPPED:
            seen = f"{now.clipped:.0%} of its values at an end of their range"
            return "pictures-saturated", seen, f"limit {usual.clipped + MOST_CLIPPED:.0%}"
        if now.variety < least_variety:
            seen = f"a variety of colour of {now.variety:.3f} between images"
            return "pictures-alike", seen, f"limit {least_variety:.3f}"
        parts = min((now.deviations(each) for each in (usual, self.start)), key=lambda parts: sum(parts.values()))
        distance, most = sum(parts.values()), max(parts, key=lambda part: parts[part])
        if distance <= DISTANCE:
            return None
        seen = f"statistics of colour that lie {distance:.1f} from the teacher's, most of it in {most}"
        return UNLIKE, seen, f"limit {DISTANCE:g}"


@torch.no_grad()
def few_step_latents(
    teacher: Callable[..., Any],
    samples: FixedSamples,
    uncond: Conditioning,
    kappa4: float,
    steps: int = REFERENCE_STEPS,
) -> Tensor:
    """[N, C, h, w] the teacher's own latents for fixed prompts and noises, by DDIM without noise (arXiv 2010.02502).

    κ4 is clipped to a range that makes images; the steps are evenly spaced from the noisiest timestep. uncond:
    [1, L, D] the encoded empty prompt.
    """
    schedule, kappa = samples.schedule, float(np.clip(kappa4, *REFERENCE_GUIDANCE))
    timesteps = np.linspace(schedule.last, 0, steps + 1).round().astype(int).tolist()
    parts = []
    empty = mapped(lambda each: each.to(schedule.device), uncond)
    for z, cond, _ in samples.parts():
        x = z
        for timestep, following in itertools.pairwise(timesteps):
            t = torch.full((len(z),), timestep, dtype=schedule.time_dtype, device=z.device)
            x_0 = schedule.x0(guided_output(teacher, x, t, cond, empty, kappa), x, t)
            noise = schedule.implied_noise(x, x_0, t)
            x = schedule.add_noise(x_0, noise, torch.full_like(t, following)) if following else x_0
        parts.append(x)
    return torch.cat(parts)


def teacher_images(teacher: Callable[..., Any], samples: FixedSamples, uncond: Conditioning, kappa4: float) -> Images:
    """[N, H, W, 3] uint8: the teacher's own images for fixed prompts and noises, in a few steps."""
    return samples.decoded(few_step_latents(teacher, samples, uncond, kappa4))


def check_is_due(iteration: int, snapshot_steps: Collection[int]) -> bool:
    """Whether to check after an iteration: early at some, and later with every grid that is kept anyway."""
    return iteration in CHECK_AFTER or (iteration > CHECK_AFTER[0] and iteration in snapshot_steps)
