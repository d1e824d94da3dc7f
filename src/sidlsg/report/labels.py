"""Where labels of marks go, so that they cover neither one another nor the marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
