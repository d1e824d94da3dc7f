"""Scatter charts as SVG text: generators by two qualities at once, colours left to the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from sidlsg.report.charts import LOG_FROM, Axis, axes, fine_log_ticks, linear_ticks
from sidlsg.report.contenders import Kind
from sidlsg.report.labels import Box, place_labels

WIDTH, HEIGHT = 560, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 544, 30, 336
"""The plot's edges inside the picture; the axes' labels stand around them."""
KINDS: tuple[Kind, ...] = ("student", "teacher", "published", "real")
"""In the order in which their labels are placed."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What an axis shows."""

    name: str
    higher_is_better: bool

    @property
    def label(self) -> str:
        """The name with the way that is better."""
        return f"{self.name} {'↑ higher' if self.higher_is_better else '↓ lower'} is better"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One labelled point."""

    label: str
    x: float
    y: float
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    named: bool = True
    """Whether its label is drawn; it is told in any case where the pointer rests."""

    @property
    def finite(self) -> bool:
        """Whether it has a place."""
        return math.isfinite(self.x) and math.isfinite(self.y)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Marks of one kind."""

    kind: Kind
    marks: tuple[Mark, ...]
    joined: bool = False
    """Whether a line joins them in their order."""


def plane_axes(marks: Sequence[Mark]) -> tuple[Axis, Axis]:
    """The axes of x and y that enclose marks and their intervals."""
    return (
        _axis(((mark.x, mark.x_interval) for mark in marks), LEFT, RIGHT),
        _axis(((mark.y, mark.y_interval) for mark in marks), BOTTOM, TOP),
    )


def scatter(title: str, x: Quantity, y: Quantity, groups: Sequence[Group], frame: Box | None = None) -> str:
    """Draw marks with labels and thin bars for their intervals; a mark that is not finite is left out.

    Args:
        title: what is shown, for readers who cannot see it.
        x: along the x axis.
        y: along the y axis.
        groups: marks of a group have the class `kind-<kind>`.
        frame: a rectangle to draw, in the picture's coordinates.

    Returns:
        An `<svg>` element, or a sentence where no mark is finite.
    """
    shown = [
        Group(kind=group.kind, marks=tuple(mark for mark in group.marks if mark.finite), joined=group.joined)
        for kind in KINDS
        for group in groups
        if group.kind == kind
    ]
    marks = [mark for group in shown for mark in group.marks]
    if not marks:
        return '<p class="note">No two finite values to draw.</p>'
    x_axis, y_axis = plane_axes(marks)
    spots = [(x_axis.place(mark.x), y_axis.place(mark.y), mark.label if mark.named else "") for mark in marks]
    kinds = [group.kind for group in shown for _ in group.marks]
    bars = [box for mark in marks for box in _bars(mark, x_axis, y_axis)]
    labels = place_labels(spots, Box(LEFT + 2, TOP - 8, WIDTH - 2, BOTTOM - 2), bars)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *axes(x_axis, y_axis),
        f'<text class="label" x="{LEFT}" y="14">{escape(_axis_label(y, y_axis))}</text>',
        f'<text class="label" x="{RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(_axis_label(x, x_axis))}</text>',
    ]
    if frame is not None:
        size = f'width="{frame.right - frame.left:.1f}" height="{frame.bottom - frame.top:.1f}"'
        parts.append(f'<rect class="frame" x="{frame.left:.1f}" y="{frame.top:.1f}" {size}/>')
    curves = (group for group in shown if group.joined and len(group.marks) > 1)
    parts += [_curve(group, x_axis, y_axis, f"curve curve-{index}") for index, group in enumerate(curves)]
    # The most important last, so that it lies on top.
    parts += [_mark(group.kind, mark, x_axis, y_axis) for group in reversed(shown) for mark in group.marks]
    parts += [
        f'<text class="name name-{kind}" x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.anchor}">'
        f"{escape(label.text)}</text>"
        for kind, label in zip(kinds, labels, strict=True)
        if label.text
    ]
    return "\n".join([*parts, "</svg>"])


def _axis(values: Iterable[tuple[float, Interval | None]], start: float, end: float) -> Axis:
    every = [each for value, interval in values for each in (value, *_ends(interval))]
    low, high = min(every), max(every)
    # Shares are compared near 1, which a logarithmic axis squeezes.
    logarithmic = low > 0 and high > 1 and high / low >= LOG_FROM
    ticks = fine_log_ticks(low, high) if logarithmic else linear_ticks(low, high, 5)
    return Axis(ticks=ticks, start=start, end=end, logarithmic=logarithmic)


def _ends(interval: Interval | None) -> Interval | tuple[()]:
    return interval if interval is not None and all(map(math.isfinite, interval)) else ()


def _axis_label(quantity: Quantity, axis: Axis) -> str:
    return f"{quantity.label} (logarithmic)" if axis.logarithmic else quantity.label


def _curve(group: Group, x_axis: Axis, y_axis: Axis, name: str) -> str:
    places = " ".join(f"{x_axis.place(mark.x):.1f},{y_axis.place(mark.y):.1f}" for mark in group.marks)
    return f'<polyline class="{name}" points="{places}"/>'


def _bars(mark: Mark, x_axis: Axis, y_axis: Axis) -> list[Box]:
    """Where the intervals' bars are: a pixel across, as long as the interval."""
    x, y = x_axis.place(mark.x), y_axis.place(mark.y)
    bars = []
    if ends := _ends(mark.x_interval):
        left, right = sorted(x_axis.place(end) for end in ends)
        bars.append(Box(left, y - 0.5, right, y + 0.5))
    if ends := _ends(mark.y_interval):
        top, bottom = sorted(y_axis.place(end) for end in ends)
        bars.append(Box(x - 0.5, top, x + 0.5, bottom))
    return bars


def _mark(kind: Kind, mark: Mark, x_axis: Axis, y_axis: Axis) -> str:
    bars = "".join(
        f'<rect class="bar" x="{box.left:.1f}" y="{box.top:.1f}" width="{box.right - box.left:.1f}" '
        f'height="{box.bottom - box.top:.1f}"/>'
        for box in _bars(mark, x_axis, y_axis)
    )
    told = escape(f"{mark.label}: {mark.x:g}, {mark.y:g}")
    shape = _shape(kind, x_axis.place(mark.x), y_axis.place(mark.y))
    return f'<g class="kind-{kind}"><title>{told}</title>{bars}{shape}</g>'


def _shape(kind: Kind, x: float, y: float) -> str:
    if kind == "student":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    # Around (0, 0): a square, a diamond, a triangle.
    corners = {
        "teacher": "-3.5,-3.5 3.5,-3.5 3.5,3.5 -3.5,3.5",
        "published": "0,-5 5,0 0,5 -5,0",
        "real": "0,-5 4.5,3.5 -4.5,3.5",
    }[kind]
    return f'<polygon points="{corners}" transform="translate({x:.1f} {y:.1f})"/>'
