"""Scatter charts as SVG text: generators by two qualities at once, colours left to the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from sidlsg.report.charts import LOG_FROM, Axis, axes, fine_log_ticks, linear_ticks
from sidlsg.report.contenders import Kind

CHARACTER, LINE = 6.3, 12.0
"""A character's width and a line's height, as the page's 11 pixels have them in a wide face."""
GAP = 7.0
"""From a mark's middle to its label."""
FAR = 60.0
"""What it costs to go further off, as an area that would be covered."""


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text with its place."""

    text: str
    x: float
    y: float
    """Of the text's base line."""
    anchor: str
    """`start`, `middle` or `end`: the part of the text that is at x."""

    @property
    def box(self) -> Box:
        """What it covers."""
        width = CHARACTER * len(self.text)
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return Box(left, self.y - LINE * 0.75, left + width, self.y + LINE * 0.25)


def place_labels(spots: Sequence[tuple[float, float, str]], frame: Box, taken: Sequence[Box] = ()) -> list[Label]:
    """Put a label beside each mark: the first place that covers nothing, or the one that covers least.

    Args:
        spots: x, y and text of each mark, the most important first; no text is a mark to keep clear of.
        frame: what no label should leave.
        taken: what else is not to be covered.

    Returns:
        One label a mark, in their order.
    """
    marks = [Box(x - GAP / 2, y - GAP / 2, x + GAP / 2, y + GAP / 2) for x, y, _ in spots]
    placed: list[Label] = []
    for x, y, text in spots:
        covered = [*marks, *taken, *(label.box for label in placed)]
        best, least = None, float("inf")
        for label, far in _places(x, y, text):
            box = label.box
            # What is outside cannot be read at all; what is covered can, somewhat; far away it seems another's.
            cost = 10 * (box.area - box.overlap(frame)) + sum(box.overlap(other) for other in covered) + far
            if cost < least - 1e-9:
                best, least = label, cost
        placed.append(best or Label(text=text, x=x, y=y, anchor="middle"))
    return placed


def _places(x: float, y: float, text: str) -> Iterator[tuple[Label, float]]:
    """Labels around a mark, each with what its distance costs."""
    middle = y + LINE * 0.25
    for step in range(3):
        gap, far = GAP * (1 + 0.8 * step), FAR * step
        up, down = y - gap - LINE * 0.2, y + gap + LINE * 0.7
        yield Label(text=text, x=x + gap, y=middle, anchor="start"), far
        yield Label(text=text, x=x - gap, y=middle, anchor="end"), far
        for height in (up, down):
            yield Label(text=text, x=x, y=height, anchor="middle"), far
        for height in (up, down):
            yield Label(text=text, x=x + GAP / 2, y=height, anchor="start"), far
            yield Label(text=text, x=x - GAP / 2, y=height, anchor="end"), far


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


CROWD = 4
"""Fewer marks than this have room anyhow."""
SHARE = 0.4
"""Of the plot's area: the students' part is drawn again where it is less."""
MARGIN = 12.0
"""Around the students, in the picture's coordinates."""
MARGIN_OF_ONE = 45.0
"""Around a student that is the only one."""


@dataclass(frozen=True, kw_only=True)
class CloseUp:
    """Both pictures' marks."""

    overview: tuple[Group, ...]
    """Everything; what the second picture names is not named."""
    frame: Box
    """Of the second picture within the first."""
    near: tuple[Group, ...]
    """What lies within the frame."""


def close_up(groups: Sequence[Group]) -> CloseUp | None:
    """Find the part to draw again; None where one picture will do."""
    every = [mark for group in groups for mark in group.marks if mark.finite]
    students = [mark for group in groups if group.kind == "student" for mark in group.marks if mark.finite]
    if not students:
        return None
    margin = MARGIN if len(students) > 1 else MARGIN_OF_ONE
    x_axis, y_axis = plane_axes(every)
    xs, ys = [x_axis.place(mark.x) for mark in students], [y_axis.place(mark.y) for mark in students]
    # Not beyond the plot, where the picture may end.
    frame = Box(
        max(min(xs) - margin, x_axis.start - MARGIN),
        max(min(ys) - margin, y_axis.end - MARGIN),
        min(max(xs) + margin, x_axis.end + MARGIN),
        min(max(ys) + margin, y_axis.start + MARGIN),
    )

    def inside(mark: Mark) -> bool:
        x, y = x_axis.place(mark.x), y_axis.place(mark.y)
        return frame.left <= x <= frame.right and frame.top <= y <= frame.bottom

    count = sum(map(inside, every))
    whole = (x_axis.end - x_axis.start) * (y_axis.start - y_axis.end)
    if count < CROWD or count == len(every) or frame.area > SHARE * whole:
        return None
    return CloseUp(
        overview=_each(groups, lambda mark: replace(mark, named=not (mark.finite and inside(mark)))),
        frame=frame,
        near=_each(groups, lambda mark: mark if mark.finite and inside(mark) else None),
    )


def _each(groups: Sequence[Group], change: Callable[[Mark], Mark | None]) -> tuple[Group, ...]:
    """The groups with each mark changed, or left out."""
    return tuple(
        replace(group, marks=tuple(new for mark in group.marks if (new := change(mark)) is not None))
        for group in groups
    )
