"""Who is told of a run's progress: alarms, an experiment tracker."""

from __future__ import annotations

from typing import Protocol

from PIL import Image

Row = dict[str, float]


class Observer(Protocol):
    """Told of what happens, in the leading process alone."""

    def iterated(self, images_seen: int) -> None:
        """An iteration is done, as far as the host knows; nothing is read from the device for it."""

    def logged(self, row: Row) -> None:
        """A row of the training log: `iteration`, `images_seen`, losses, norms, signs, speed."""

    def drawn(self, images_seen: int, grid: Image.Image) -> None:
        """A grid of the EMA's samples."""

    def evaluated(self, row: Row) -> None:
        """Scores of the EMA by name, with `iteration` and `images_seen`."""
