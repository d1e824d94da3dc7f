"""How much faster two processes with one thread each are than one, at the same global batch.

`python tests/long/two_processes.py`, on a machine with two free cores that does nothing else. Runs alternate, so that
what the machine does besides hits both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from distributed.conftest import Workers


def measure(folder: Path, rounds: int, iterations: int, batch: int, micro_batch: int) -> dict[int, list[float]]:
    """Seconds of each iteration, by number of processes.

    Args:
        folder: for the workers' results.
        rounds: how often each number of processes is started.
        iterations: timed in each start, after one that sets up.
        batch: images of an iteration, over all processes.
        micro_batch: images in memory at once, in each process.
    """
    job = {
        "do": "speed",
        "bundled": True,
        "dtype": "float32",
        "batch": batch,
        "micro_batch": micro_batch,
        "iterations": iterations,
    }
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for processes in seconds:
            (outcome,) = Workers(folder).do(processes, job)
            seconds[processes] += outcome.numbers["seconds"]
            print(f"round {number + 1}, {processes} process(es): {statistics.median(outcome.numbers['seconds']):.2f} s")
    return seconds


def main() -> None:
    """Parse the options, measure, and say the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=16)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory(prefix="two-processes-") as folder:
        seconds = measure(Path(folder), **vars(options))
    one, two = (statistics.median(seconds[processes]) for processes in (1, 2))
    print(f"one process {one:.2f} s an iteration, two processes {two:.2f} s: {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
