"""The images that a scorecard shows: grids, and those that fit their prompts best and worst."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sidlsg.evaluate.suite import TextFit
from sidlsg.runtime.randomness import counted
from sidlsg.storage.records import Extreme, FileRef, file_ref
from sidlsg.teacher.images import Images, grid, save_png
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting

GRID_IMAGES = 36
GRID_COLUMNS = 6
GRID_SIDE = 128
"""Largest image side in a grid, in pixels."""
EXTREMES = 6
"""Images on each side, best and worst."""
EXTREME_SIDE = 256


def grid_places(count: int) -> list[int]:
    """The indices of a set's images in grids: the same for every generator."""
    shown = min(count, GRID_IMAGES)
    return sorted(counted(0, "evaluate/grid").choice(count, shown, replace=False).tolist())


def save_grids(images_by_subject: Mapping[str, Images], folder: Path) -> tuple[FileRef, ...]:
    """Write `grids/<subject>.png` of the [N, H, W, 3] images of each subject."""
    refs = []
    for name, images in images_by_subject.items():
        path = folder / "grids" / f"{name.replace(' ', '_')}.png"
        save_png(grid(np.stack([np.asarray(_small(image, GRID_SIDE)) for image in images]), GRID_COLUMNS), path)
        refs.append(file_ref(path, folder))
    return tuple(refs)


def save_extremes(fit: TextFit, sampler: StockSampler, setting: Setting, folder: Path) -> tuple[Extreme, ...]:
    """Sample the best and worst images of a set again into `extremes/`, at most one of each prompt on each side."""
    order = fit.values.double().argsort(stable=True).tolist()
    worst, best = (_of_unlike_prompts(places, fit.image_set.prompts) for places in (order, order[::-1]))
    rows = [(place, True) for place in best] + [(place, False) for place in worst]
    prompts = [fit.image_set.prompts[place] for place, _ in rows]
    images = sampler(prompts, [place for place, _ in rows], setting)
    found = []
    for image, prompt, (place, is_best) in zip(images, prompts, rows, strict=True):
        path = folder / "extremes" / f"{'best' if is_best else 'worst'}_{place:05d}.png"
        save_png(_small(image, EXTREME_SIDE), path)
        found.append(
            Extreme(
                prompt=prompt,
                seed=place,
                value=round(float(fit.values[place]), 6),
                measure=fit.measure,
                best=is_best,
                picture=file_ref(path, folder),
            )
        )
    return tuple(found)


def _of_unlike_prompts(places: Sequence[int], prompts: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    for place in places:
        first.setdefault(re.sub(r"\s+", " ", prompts[place]), place)
        if len(first) == EXTREMES:
            break
    return list(first.values())


def _small(image: Images, side: int) -> Image.Image:
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)  # leaves smaller images as they are
    return small
