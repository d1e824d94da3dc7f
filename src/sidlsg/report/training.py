"""The training log as charts over the images seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.report.charts import Series, line_chart
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

Row = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart with what its caption says."""

    title: str
    lines: tuple[str, ...]
    """Names of the lines, where there is more than one."""
    svg: str


@dataclass(frozen=True, kw_only=True)
class TrainingCharts:
    """The charts of a run."""

    charts: tuple[Chart, ...]
    rows: int
    """How many iterations were logged."""
    gaps: int
    """How many of their values are not finite."""


_CHARTS: tuple[tuple[str, str, tuple[tuple[str, str], ...], bool], ...] = (
    ("Fake-score loss", "loss, per image", (("", "fake_score_loss"),), False),
    ("Generator loss", "loss, per image", (("", "generator_loss"),), False),
    (
        "Gradient norms",
        "L2 norm",
        (("fake score", "fake_score_gradient_norm"), ("generator", "generator_gradient_norm")),
        False,
    ),
    ("Speed", "images/s", (("", "images_per_second"),), True),
)
"""Title, unit, (line, field of the log) and whether the y axis begins at 0."""


_NOT_SCORES = {"iteration", "images_seen", "images"}
"""Of an evaluation's row."""


def read_training_log(path: Path) -> list[Row]:
    """Read a training log.

    Returns:
        One row a line, in order; NaN stands for what is not a number.

    Raises:
        InputError: a line is not a JSON object with `images_seen`.
    """
    rows = []
    for count, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not _is_number(row.get("images_seen")):
            raise InputError(
                f"line {count} of {path} is {line[:60]!r}; a training log has a JSON object with images_seen on each "
                "line: run the distil stage again"
            )
        rows.append({name: float(value) if _is_number(value) else math.nan for name, value in row.items()})
    return rows


def training(rows: list[Row], evaluations: Sequence[Row] = ()) -> TrainingCharts:
    """Draw the losses, the gradient norms and the speed of a log; a missing field is a gap.

    Args:
        rows: of the log.
        evaluations: scores of the EMA along the way; each score gets a chart, first.
    """
    charts, gaps = _scores_along_the_way(evaluations), 0
    for title, unit, lines, from_zero in _CHARTS:
        series = [
            Series(label=label, points=tuple((row["images_seen"], row.get(field, math.nan)) for row in rows))
            for label, field in lines
        ]
        gaps += sum(not math.isfinite(y) for one in series for _, y in one.points)
        svg = line_chart(f"{title} against images seen", "images seen", unit, series, from_zero)
        charts.append(Chart(title=title, lines=tuple(one.label for one in series if one.label), svg=svg))
    return TrainingCharts(charts=tuple(charts), rows=len(rows), gaps=gaps)


def _scores_along_the_way(rows: Sequence[Row]) -> list[Chart]:
    charts = []
    for name in dict.fromkeys(name for row in rows for name in row if name not in _NOT_SCORES):
        points = tuple((row["images_seen"], row.get(name, math.nan)) for row in rows)
        title = f"{name} along the way"
        svg = line_chart(f"{title} against images seen", "images seen", name, [Series(label="", points=points)], False)
        charts.append(Chart(title=title, lines=(), svg=svg))
    return charts


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
