"""Small line charts as SVG text: points in, coordinates out, colours left to the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, HEIGHT = 440, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 428, 28, 180
"""The plot's edges inside the picture; the axes' labels stand around them."""
LOG_FROM = 50.0
"""Positive values are drawn on a logarithmic axis where the largest is this many times the smallest."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line; a y that is not finite makes a gap."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values laid along a range of the picture."""

    ticks: tuple[float, ...]
    """In ascending order; the first and the last are the axis' ends."""
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.ticks[0], self.ticks[-1], value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def linear_ticks(low: float, high: float, intervals: int = 4) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose [low, high]."""
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / intervals
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    # A tick may miss an end by rounding; a whole step more would show as an empty band.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(index * step for index in range(first, last + 1))


def log_ticks(low: float, high: float, intervals: int = 5) -> tuple[float, ...]:
    """Powers of ten that enclose [low, high], the same number of decades apart."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    apart = max(1, math.ceil((last - first) / intervals))
    count = max(1, math.ceil((last - first) / apart))
    return tuple(10.0 ** (first + apart * index) for index in range(count + 1))


def fine_log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten that tightly enclose [low, high]; powers of ten alone over many decades."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 3:
        return log_ticks(low, high)
    every = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    below = max(tick for tick in every if tick <= low * (1 + 1e-9))
    above = min(tick for tick in every if tick >= high * (1 - 1e-9))
    return tuple(tick for tick in every if below <= tick <= above)


def tick_text(value: float) -> str:
    """A tick's label: thousands as k, millions as M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def runs(points: Iterable[Point]) -> list[list[Point]]:
    """The stretches of a line between its gaps."""
    return [list(part) for finite, part in groupby(points, key=lambda p: all(map(math.isfinite, p))) if finite]


def line_chart(title: str, x_label: str, y_label: str, series: Sequence[Series], from_zero: bool = False) -> str:
    """Draw lines over a common x axis that begins at 0.

    Args:
        title: what is shown, for readers who cannot see it.
        x_label: the quantity along the x axis.
        y_label: the quantity along the y axis, with its unit.
        series: the lines; line i has the class `line-i`.
        from_zero: whether the y axis is linear and begins at 0, as suits rates.

    Returns:
        An `<svg>` element, or a sentence where no value is finite.
    """
    known = [point for one in series for run in runs(one.points) for point in run]
    if not known:
        return '<p class="note">No finite value was logged.</p>'
    ys = [y for _, y in known]
    logarithmic = not from_zero and min(ys) > 0 and max(ys) / min(ys) >= LOG_FROM
    lows = [min(ys), *([0.0] if from_zero else [])]
    y_ticks = log_ticks(min(ys), max(ys)) if logarithmic else linear_ticks(min(lows), max(ys))
    x_axis = Axis(ticks=linear_ticks(0.0, max(x for x, _ in known) or 1.0), start=LEFT, end=RIGHT)
    y_axis = Axis(ticks=y_ticks, start=BOTTOM, end=TOP, logarithmic=logarithmic)
    label = f"{y_label} (logarithmic)" if logarithmic else y_label
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *axes(x_axis, y_axis),
        f'<text class="label" x="{LEFT}" y="14">{escape(label)}</text>',
        f'<text class="label" x="{RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>',
    ]
    for index, one in enumerate(series):
        parts += [_stretch(run, x_axis, y_axis, f"line-{index}") for run in runs(one.points)]
    return "\n".join([*parts, "</svg>"])


def axes(x_axis: Axis, y_axis: Axis) -> list[str]:
    """Draw both axes with their ticks, and a rule across the plot at each tick of the y axis."""
    left, right, bottom = x_axis.start, x_axis.end, y_axis.start
    parts = []
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        parts.append(f'<line class="rule" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick_text(tick)}</text>')
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{tick_text(tick)}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    return parts


def _stretch(run: Sequence[Point], x_axis: Axis, y_axis: Axis, name: str) -> str:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in run]
    if len(places) == 1:  # a line through one point would not show
        return f'<circle class="{name}" cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2"/>'
    return f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
