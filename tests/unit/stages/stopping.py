"""A stop in the middle of an iteration, for tests of resumed runs."""

from __future__ import annotations

from sidlsg.distil.loop import StopRequest


class StopSoon(StopRequest):
    """Asks to stop after the first update of the second iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0
