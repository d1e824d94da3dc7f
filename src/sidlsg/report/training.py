"""The training log as charts over the images seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.report.charts import line_chart
from sidlsg.runtime.parsing import read_log

Row = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainingCharts:
    """The charts of a run."""

    charts: tuple[tuple[str, str], ...]
    """Title and SVG."""
    rows: int
    """Logged iterations."""
    gaps: int
    """Plotted values that are missing or not finite."""


CHARTS: tuple[tuple[str, str, dict[str, str], bool], ...] = (
    ("Fake-score loss", "loss, per image", {"fake score": "fake_score_loss"}, False),
    ("Generator loss", "loss, per image", {"generator": "generator_loss"}, False),
    (
        "Gradient norms",
        "L2 norm",
        {"fake score": "fake_score_gradient_norm", "generator": "generator_gradient_norm"},
        False,
    ),
    ("Speed", "images/s", {"training": "images_per_second"}, True),
)
"""Title, unit, fields of the log by label, and whether the y axis starts at 0."""


def read_training_log(path: Path) -> list[Row]:
    """Read a training log as `read_log` does; what is not a number becomes NaN."""
    return [
        {name: float(value) if _is_number(value) else math.nan for name, value in row.items()} for row in read_log(path)
    ]


def training_charts(rows: Sequence[Row], evaluations: Sequence[Row] = ()) -> TrainingCharts:
    """Plot scores of the EMA during training, then the losses, the gradient norms and the speed."""
    charts, gaps = [], 0
    scores = dict.fromkeys(name for row in evaluations for name in row)
    for name in (name for name in scores if name not in ("iteration", "images_seen", "images")):
        title = f"{name} during training"
        charts.append((title, line_chart(title, name, {name: _points(evaluations, name)})))
    for title, unit, fields, from_zero in CHARTS:
        lines = {label: _points(rows, field) for label, field in fields.items()}
        gaps += sum(not math.isfinite(y) for points in lines.values() for _, y in points)
        charts.append((title, line_chart(title, unit, lines, from_zero)))
    return TrainingCharts(charts=tuple(charts), rows=len(rows), gaps=gaps)


def _points(rows: Sequence[Row], field: str) -> list[tuple[float, float]]:
    return [(row["images_seen"], row.get(field, math.nan)) for row in rows]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
