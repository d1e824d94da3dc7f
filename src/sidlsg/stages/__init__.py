"""The stages: each reads records, writes one, and connects the packages below this one.

`NAME_step` implements the component NAME, with plain values instead of artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def timed(step: Callable[P, R]) -> Callable[P, tuple[R, float]]:
    """Make a step also return its duration in seconds, for the costs of a run."""

    @wraps(step)
    def measured(*args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        began = time.monotonic()
        result = step(*args, **kwargs)
        return result, round(time.monotonic() - began, 1)

    return measured
