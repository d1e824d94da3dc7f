"""Figures of the page, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from claims import Interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

mpl.rcParams.update({
    "svg.fonttype": "none",
    "svg.hashsalt": "evidence",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
})  # fmt: skip
TEACHER: Any = {"color": "#d2691e", "linestyle": "--"}
TITLES = {
    "fid_judge": "distance to real images (fid_judge), lower is better",
    "recall_judge": "recall, higher is better",
    "all_attributes": "captions with everything right, higher is better",
}
Seeds = Mapping[str, Mapping[str, float]]


def interval(seeds: Seeds, score: str) -> Interval:
    """Mean of a score over seeds, with its interval."""
    return Interval.of([each[score] for each in seeds.values()])


def drawn(found: Interval) -> float | None:
    """Half of an interval's width for a plot; None of a single seed, which is a dot alone."""
    return None if found.half == float("inf") else found.half


def save(file: Path, count: int, draw: Callable[[Sequence[Axes]], None], width: float = 4.6) -> None:
    """A figure of some plots side by side, each so wide in inches."""
    figure = Figure(figsize=(width * count, 0.8 * width), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    draw(list(axes))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


def labelled(file: Path, study: Mapping[str, Seeds], lines: Mapping[str, Mapping[str, float]]) -> None:
    """Each score by label, with its interval over seeds; `lines` are the teacher's."""

    def draw(axes: Sequence[Axes]) -> None:
        for axis, score in zip(axes, TITLES, strict=True):
            found = {label: interval(seeds, score) for label, seeds in study.items() if seeds}
            for row, each in enumerate(found.values()):
                axis.errorbar(each.mean, -row, xerr=drawn(each), marker="o", color="#3a7bd0", capsize=3)
            for name, scores in lines.items():
                axis.axvline(scores[score], **TEACHER, label=f"teacher, {name}")
            axis.set_yticks([-row for row in range(len(found))], list(found))
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.set_xlabel(TITLES[score])
            if axis is not axes[0]:
                axis.set_yticklabels([])
        if lines:
            axes[0].legend(fontsize=8)

    save(file, len(TITLES), draw)


def over_images(
    file: Path, curves: Mapping[str, Sequence[Mapping[str, Any]]], lines: Mapping[str, Mapping[str, float]]
) -> None:
    """Scores against images seen, a line for each seed."""

    def draw(axes: Sequence[Axes]) -> None:
        for axis, score in zip(axes, TITLES, strict=True):
            for seed, rows in curves.items():
                axis.plot([r["images_seen"] for r in rows], [r[score] for r in rows], marker=".", label=f"seed {seed}")
            for name, scores in lines.items():
                axis.axhline(scores[score], **TEACHER, label=f"teacher, {name}")
            axis.set_xlabel("images seen in training")
            axis.set_title(TITLES[score], fontsize=9, loc="left")
        axes[0].legend(fontsize=8)

    save(file, len(TITLES), draw)


def samples(file: Path, grids: Sequence[Path]) -> None:
    """A part of each of some grids, side by side, under the number of images seen."""
    chosen = [grids[i * (len(grids) - 1) // 5] for i in range(6)]
    figure = Figure(figsize=(16, 3), layout="constrained")
    for axis, path in zip(figure.subplots(1, len(chosen)), chosen, strict=True):
        with Image.open(path) as grid:
            axis.imshow(np.asarray(grid)[: grid.height * 4 // 6, : grid.width * 4 // 6])
        axis.set_title(f"{int(path.stem):,} images")
        axis.axis("off")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)


def trade_off(
    file: Path, studies: Mapping[str, Mapping[str, Seeds]], teacher: Mapping[str, Mapping[str, float]]
) -> None:
    """Means of distance and alignment: a line for each kind of guidance, and the teacher's over its guidance scales."""

    def draw(axes: Sequence[Axes]) -> None:
        (axis,) = axes
        for name, study in studies.items():
            found = {
                at: (interval(s, "fid_judge").mean, interval(s, "all_attributes").mean) for at, s in study.items() if s
            }
            axis.plot(*zip(*found.values(), strict=True), marker="o", label=name)
            for label, point in found.items():
                axis.annotate(label, point, textcoords="offset points", xytext=(4, 4), fontsize=7)
        points = [(each["fid_judge"], each["all_attributes"]) for each in teacher.values()]
        axis.plot(*zip(*points, strict=True), marker="s", color="#d2691e", label="teacher, 20 steps")
        axis.set_xlabel(TITLES["fid_judge"])
        axis.set_ylabel("captions with everything right")
        axis.legend(fontsize=8)

    save(file, 1, draw, width=7)
