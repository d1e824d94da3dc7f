"""Ways of doing the same thing, each in a process of its own, timed in alternation.

A noisy machine is then as noisy for each of them, and none pays for what another has imported or left in memory.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

PATIENCE = 3600
"""Seconds that a way may take to answer: compilation on a busy machine takes long."""


@dataclass
class Times:
    """Seconds an iteration, a block each."""

    wall: list[float] = field(default_factory=list)
    """On the clock."""
    cpu: list[float] = field(default_factory=list)
    """That the processor worked, all threads added up."""


class Way:
    """A way in a process of its own, which works only while it is asked to."""

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: Any) -> None:
        """Args:
        make: builds the way there and returns its iteration; importable by name.
        arguments: what it takes.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # else its end would not be noticed

    def run(self, iterations: int) -> tuple[float, float]:
        """Iterate; seconds on the clock, and of the processor.

        Raises:
            RuntimeError: the process ended, or did not answer.
        """
        try:
            self._connection.send(iterations)
            if not self._connection.poll(PATIENCE):
                raise RuntimeError(f"a way did not answer within {PATIENCE} s")
            wall, cpu = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("the process of a way ended; what it said is above") from error
        return wall, cpu

    def __enter__(self) -> Way:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()  # it ends when nobody can ask any more
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def alternate(ways: dict[str, Way], blocks: int, iterations: int) -> dict[str, Times]:
    """Time each way's blocks, turn by turn; every second round goes backwards.

    Args:
        ways: by name.
        blocks: rounds.
        iterations: of a way in a block.
    """
    names, times = list(ways), {name: Times() for name in ways}
    for number in range(blocks):
        for name in names if number % 2 == 0 else reversed(names):
            wall, cpu = ways[name].run(iterations)
            times[name].wall.append(wall / iterations)
            times[name].cpu.append(cpu / iterations)
    return times


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


def _serve(connection: Connection, make: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    iterate = make(*arguments)
    while True:
        try:
            iterations = connection.recv()
        except EOFError:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(iterations):
            iterate()
        connection.send((time.perf_counter() - wall, time.process_time() - cpu))
