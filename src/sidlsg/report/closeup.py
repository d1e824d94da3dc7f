"""A second picture of where the students crowd, where one picture of everything would be illegible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sidlsg.report.labels import Box
from sidlsg.report.scatter import Group, Mark, plane_axes

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
