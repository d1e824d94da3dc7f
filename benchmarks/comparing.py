"""Ways of doing the same thing, timed in alternation: a noisy machine is as noisy for each of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass
class Timed:
    """A way, and the seconds of its blocks."""

    run: Callable[[], object]
    """One iteration."""
    wall: list[float] = field(default_factory=list)
    """Seconds an iteration on the clock, a block each."""
    cpu: list[float] = field(default_factory=list)
    """Seconds an iteration that the processor worked, all threads added up."""


def alternate(ways: dict[str, Timed], blocks: int, iterations: int, device: torch.device | str = "cpu") -> None:
    """Time each way's blocks, turn by turn; every second round goes backwards.

    Args:
        ways: by name.
        blocks: rounds.
        iterations: of a way in a block.
        device: whose work is waited for.
    """
    names = list(ways)
    for number in range(blocks):
        for name in names if number % 2 == 0 else reversed(names):
            _wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(iterations):
                ways[name].run()
            _wait(device)
            ways[name].wall.append((time.perf_counter() - wall) / iterations)
            ways[name].cpu.append((time.process_time() - cpu) / iterations)


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """The ratio of the medians, and how the ratios of the single rounds spread.

    Args:
        ours: seconds by round.
        theirs: seconds by round, of as many rounds.
    """
    each = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    quarter = len(each) // 4
    return {
        "of_medians": round(statistics.median(ours) / statistics.median(theirs), 3),
        "lower_quartile": round(each[quarter], 3),
        "upper_quartile": round(each[-1 - quarter], 3),
    }


def _wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
