"""Images/s of the real training loop while other processes are busy: the default against each fixed layout.

Each way is `sidlsg distil` of the bundled teacher in a process of its own; the rate is its training log's, without the
first iteration. In every round all ways run, one after another, with the same number of busy-looping processes.

    python benchmarks/busy_cpu.py --output benchmarks/results/busy_cpu.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sidlsg.runtime.hardware import cpu_quota

RECIPE = {"evaluate_every": 0, "grids": 0, "on_alarm": "off", "log_every": 1, "checkpoint_every": 10_000}
SPINNING = "300000"
"""libgomp's own default for GOMP_SPINCOUNT where no variable is set."""


@dataclass(frozen=True)
class Way:
    """A use of the CPUs: options of `sidlsg distil` and variables."""

    options: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None


def ways(cpus: int) -> dict[str, Way]:
    """The default, and the fixed ways that it is measured against."""
    every = str(cpus)
    return {
        "default": Way(),
        "1 thread": Way(("--processes", "1", "--threads", "1")),
        f"{cpus} threads": Way(("--processes", "1", "--threads", every)),
        f"{cpus} threads, spinning": Way(("--processes", "1", "--threads", every), {"GOMP_SPINCOUNT": SPINNING}),
        f"{cpus} processes": Way(("--processes", every, "--threads", "1")),
    }


def main() -> None:
    """Measure, print a table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the result")
    parser.add_argument(
        "--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes that run with the training"
    )
    parser.add_argument("--iterations", type=int, default=7, help="of each training, the first one not counted")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rates = measure(options.busy, options.iterations, options.rounds)
    result = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpus": cpu_quota(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "iterations": options.iterations,
        "rounds": options.rounds,
        "images_per_second": rates,
        "default_to_best": {busy: compare(row) for busy, row in rates.items()},
    }
    print(table(rates))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(situations: list[int], iterations: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median images/s by situation and way."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sidlsg("curate", "--output", str(folder / "prompts"))
        for count in situations:
            rates: dict[str, list[float]] = {name: [] for name in ways(cpu_quota())}
            with busy(count):
                for number in range(rounds):
                    for name, way in ways(cpu_quota()).items():
                        rates[name].append(rate(folder, f"{count}-{number}-{len(rates[name])}-{name}", way, iterations))
            found[str(count)] = {name: round(statistics.median(each), 1) for name, each in rates.items()}
    return found


def rate(folder: Path, name: str, way: Way, iterations: int) -> float:
    """Images/s of one training."""
    values = [f"--set={key}={value}" for key, value in {**RECIPE, "iterations": iterations}.items()]
    output = folder / name
    sidlsg(
        *("distil", "--prompts", str(folder / "prompts"), "--output", str(output)),
        *("--checkpoints", str(folder / f"{name} state"), *values, *way.options),
        variables=way.variables,
    )
    first, *_, last = [json.loads(line) for line in (output / "training_log.jsonl").read_text().splitlines()]
    return float((last["images_seen"] - first["images_seen"]) / (last["seconds"] - first["seconds"]))


def sidlsg(*arguments: str, variables: Mapping[str, str] | None = None) -> None:
    """Run the command line, whatever this process has set for itself."""
    mine = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-m", "sidlsg", *arguments], env={**mine, **(variables or {})}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but use a CPU each."""
    processes = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    while True:
        pass


def compare(row: Mapping[str, float]) -> float:
    """The default's rate as a share of the best fixed way's."""
    return round(row["default"] / max(rate for name, rate in row.items() if name != "default"), 2)


def table(rates: Mapping[str, Mapping[str, float]]) -> str:
    """The rates as Markdown."""
    names = list(next(iter(rates.values())))
    lines = [f"| busy beside | {' | '.join(names)} | default / best fixed |", f"|---|{'---:|' * (len(names) + 1)}"]
    for count, row in rates.items():
        cells: list[Any] = [*(f"{row[name]:.1f}" for name in names), f"{compare(row):.2f}"]
        lines.append(f"| {count} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
