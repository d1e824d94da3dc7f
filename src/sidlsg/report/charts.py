"""Charts as inline SVG: lines over the images seen, and scatter plots of two scores."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # matplotlib takes most of a second to import, and not every page has a chart
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["student", "teacher", "published", "real"]
AXES: tuple[Literal["x"], Literal["y"]] = ("x", "y")

INK, BLUE, ORANGE, GREEN = "#6b7681", "#3a7bd0", "#d2691e", "#2e9455"
"""Readable on a white page and on a dark one; `INK` becomes the page's own text colour."""
STYLES: dict[Kind, dict[str, Any]] = {
    "student": {"color": BLUE, "marker": "o"},
    "teacher": {"color": ORANGE, "marker": "s"},
    "published": {"color": INK, "marker": "D", "markerfacecolor": "none"},
    "real": {"color": GREEN, "marker": "^"},
}
"""Markers by kind, the most important first: its labels are placed first, and its markers are on top."""
RC: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.2,
    "grid.linewidth": 0.7,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.3,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
}
LOG_RATIO = 50.0
"""An axis is logarithmic if its largest value is at least this many times its smallest."""


def line_chart(
    title: str, y_label: str, lines: Mapping[str, Sequence[tuple[float, float]]], from_zero: bool = False
) -> str:
    """Plot (images seen, value) points; a value that is not finite makes a gap.

    Args:
        title: alternative text.
        y_label: the quantity with its unit.
        lines: points by label.
        from_zero: whether the y axis is linear and starts at 0, as suits rates.

    Returns:
        An `<svg>` element, or a paragraph if no value is finite.
    """
    known = [y for points in lines.values() for _, y in points if math.isfinite(y)]
    if not known:
        return '<p class="note">No finite value was logged.</p>'
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    with rc_context(RC):
        figure = Figure(figsize=(7.1, 3.5), dpi=72, layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=False, axis="x")
        for (label, points), color in zip(lines.items(), (BLUE, ORANGE), strict=False):
            ys = [y if math.isfinite(y) else math.nan for _, y in points]
            # A line does not show a point between two gaps: it gets a marker.
            padded = [math.nan, *ys, math.nan]
            alone = [i for i in range(len(ys)) if math.isnan(padded[i]) and math.isnan(padded[i + 2])]
            axes.plot([x for x, _ in points], ys, label=label, color=color, marker=".", markevery=alone)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("images seen", loc="right")
        if from_zero:
            axes.set_ylim(bottom=0)
        elif min(known) > 0 and max(known) / min(known) >= LOG_RATIO:
            y_label += _set_logarithmic(axes, "y", known)
        axes.set_title(y_label)
        if len(lines) > 1:
            axes.legend()
        return _svg(figure, title)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One labelled marker of a scatter plot."""

    label: str
    kind: Kind
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None

    def values(self, axis: Literal["x", "y"]) -> list[float]:
        """The value along an axis, and the ends of its interval if these are finite."""
        value, interval = (self.x, self.x_interval) if axis == "x" else (self.y, self.y_interval)
        return [value, *(interval if interval is not None and all(map(math.isfinite, interval)) else ())]


Curve = tuple[str, Sequence[Point]]
"""A label, and the points that a line joins in their order."""
CROWD, CROWDED_AREA, MARGIN = 4, 0.4, 0.05
"""A close-up shows a part with all students, `MARGIN` around them, if it has `CROWD` points and less than this area."""


def scatter_plot(title: str, x_label: str, y_label: str, points: Sequence[Point], curves: Sequence[Curve]) -> str:
    """Plot labelled points with thin bars for their intervals, and a close-up of the students if they are crowded.

    Args:
        title: alternative text.
        x_label: quantity along the x axis.
        y_label: quantity along the y axis.
        points: non-finite points are omitted.
        curves: lines through some of the points.

    Returns:
        An `<svg>` element, or a paragraph if no point is finite.
    """
    points = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not points:
        return '<p class="note">No two finite values to draw.</p>'
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    near = _crowd(points)
    with rc_context(RC):
        figure = Figure(figsize=(14.8 if near else 8.6, 5.4), dpi=72, layout="constrained")
        panels = figure.subplots(1, 2 if near else 1, squeeze=False)[0]
        for panel, shown in zip(panels, (points, near), strict=False):
            _draw(panel, x_label, y_label, shown, curves)
        if near:
            (left, right), (low, high) = panels[1].get_xlim(), panels[1].get_ylim()
            panels[0].indicate_inset((left, low, right - left, high - low), edgecolor=INK, linestyle=":")
            panels[1].set_title(f"close-up: {panels[1].get_title('left')}")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
        # Labels need the final layout.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _place_labels(panels[0], points, unlabelled=near)
        if near:
            _place_labels(panels[1], near)
        return _svg(figure, title)


def _crowd(points: Sequence[Point]) -> list[Point]:
    """The points for a close-up; empty if none is needed."""
    near, area = list(points), 1.0
    for axis in AXES:
        scale = math.log if _is_logarithmic([point.values(axis)[0] for point in points]) else float
        along = {point: scale(point.values(axis)[0]) for point in points}
        margin = MARGIN * (max(along.values()) - min(along.values()))
        students = [value for point, value in along.items() if point.kind == "student"]
        if not students or not margin:
            return []
        low, high = min(students) - margin, max(students) + margin
        near = [point for point in near if low <= along[point] <= high]
        area *= (high - low) / margin * MARGIN
    return near if CROWD <= len(near) < len(points) and area < CROWDED_AREA else []


def _draw(axes: Axes, x_label: str, y_label: str, points: Sequence[Point], curves: Sequence[Curve]) -> None:
    for (label, curve), line in zip(curves, cycle(("-", "--", "-.", ":")), strict=False):
        shown = [point for point in curve if point in points]
        axes.plot([p.x for p in shown], [p.y for p in shown], line, color=BLUE, alpha=0.6, label=label, zorder=2)
    for order, (kind, style) in enumerate(STYLES.items()):
        ones = [point for point in points if point.kind == kind]
        label = "real images" if kind == "real" else kind
        if ones:
            axes.plot([p.x for p in ones], [p.y for p in ones], linestyle="", label=label, zorder=9 - order, **style)
        for one in ones:
            for xs, ys in ((one.values("x")[1:], [one.y] * 2), ([one.x] * 2, one.values("y")[1:])):
                if len(xs) == len(ys):
                    axes.plot(xs, ys, color=style["color"], alpha=0.6, linewidth=1)
    axes.margins(0.08)
    labels = {"x": x_label, "y": y_label}
    for axis in AXES:
        values = [value for point in points for value in point.values(axis)]
        if _is_logarithmic(values):
            labels[axis] += _set_logarithmic(axes, axis, values)
    axes.set_xlabel(labels["x"], loc="right")
    axes.set_title(labels["y"])


def _is_logarithmic(values: Sequence[float]) -> bool:
    # Shares are compared near 1, which a logarithmic axis squeezes.
    return min(values) > 0 and max(values) > 1 and max(values) / min(values) >= LOG_RATIO


def _set_logarithmic(axes: Axes, axis: Literal["x", "y"], values: Sequence[float]) -> str:
    """Make an axis logarithmic; returns what its label has to add."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{axis}scale": "log"})
    few = max(values) / min(values) < 1000
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    ticks.set_minor_locator(NullLocator())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return " (logarithmic)"


DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Right is (1, 0), and up is (0, 1)."""


def _place_labels(axes: Axes, points: Sequence[Point], unlabelled: Sequence[Point] = ()) -> None:
    """Put each label beside its marker where it covers least, those of students first."""
    from matplotlib.transforms import Bbox

    def overlap(box: Bbox, other: Bbox) -> float:
        both = Bbox.intersection(box, other)
        return 0.0 if both is None else both.width * both.height

    centres = {point: axes.transData.transform((point.x, point.y)) for point in points}
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centres.values()]
    labelled = [point for point in points if point not in unlabelled]
    for point in sorted(labelled, key=lambda point: list(STYLES).index(point.kind)):
        color = STYLES[point.kind]["color"]
        text = axes.annotate(point.label, (point.x, point.y), (0, 0), textcoords="offset points", color=color)
        size, (x, y) = text.get_window_extent(), centres[point]
        options = []
        for distance in (7, 13, 19):
            for dx, dy in DIRECTIONS:
                left = x + dx * distance - size.width * (1 - dx) / 2
                low = y + dy * distance - size.height * (1 - dy) / 2
                box = Bbox.from_bounds(left, low, size.width, size.height)
                outside = size.width * size.height - overlap(box, axes.bbox)
                # What is outside may be cut off; what is far away seems to belong to another marker.
                cost = sum(overlap(box, other) for other in taken) + 10 * outside + 5 * (distance - 7)
                options.append((cost, box, (dx, dy), distance))
        _, box, (dx, dy), distance = min(options, key=lambda option: option[0])
        taken.append(box)
        text.set_position((dx * distance, dy * distance))
        text.set(ha=("center", "left", "right")[dx], va=("center", "bottom", "top")[dy])


def _svg(figure: Figure, title: str) -> str:
    """The figure for a page; equal figures of one title give equal bytes."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # In a page an SVG needs no prolog, namespaces or metadata, and the ids of its groups would repeat in other charts.
    _, _, content = buffer.getvalue().partition("</metadata>")
    width, height = (72 * inches for inches in figure.get_size_inches())
    content = re.sub(r'(?<=<g) id="[^"]*"', "", content)
    content = content.replace("xlink:href", "href").replace(INK, "currentColor")
    size = f'width="{width:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg class="chart" role="img" {size} aria-label="{escape(title)}">{content}'
