"""The stages: each reads records and writes one, and joins the rooms below it.

`NAME_step` is all that the component NAME does, with plain values instead of artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

STUDENT = "student 1 step"
"""The subject of a scorecard that is the student."""
P = ParamSpec("P")
R = TypeVar("R")


def timed(step: Callable[P, R]) -> Callable[P, tuple[R, float]]:
    """Let a step also return how many seconds it took, for the costs of a run."""

    @wraps(step)
    def measured(*args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        began = time.monotonic()
        result = step(*args, **kwargs)
        return result, round(time.monotonic() - began, 1)

    return measured
