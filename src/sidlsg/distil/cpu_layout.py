"""How training shares the CPUs of this machine: processes of one thread each, unless a measurement shows otherwise.

Threads that share one operation wait for each other at its end. On a busy machine one of them is late, and all the
others wait: two threads on two busy CPUs can be many times slower than one. Processes meet once an update.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from sidlsg.distil.estimate.memory import Network, Use, upper_bound
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.state import Row
from sidlsg.runtime.distributed import end_with, fork, started_as_many
from sidlsg.runtime.hardware import cpu_quota, host_memory, set_threads
from sidlsg.teacher.architectures import Architecture
from sidlsg.teacher.conditioning import mapped, of_shapes
from sidlsg.teacher.pipeline import network_class

MEASURED_S = 0.4
"""Seconds that each layout is measured for in each round, after a first pass."""
ROUNDS = 2
"""Rounds of the measurement: the load of a machine varies."""
PATIENCE_S = 15.0
"""The most seconds that measuring one layout may take; one that takes longer has no rate."""
BETTER = 1.2
"""How many times as fast threads must be, in every round, to be taken instead of processes."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Processes of a training, and the threads of each."""

    processes: int = 1
    threads: int = 1

    def __str__(self) -> str:
        processes = "process" if self.processes == 1 else "processes"
        threads = "thread" if self.threads == 1 else "threads"
        each = " each" if self.processes > 1 else ""
        return f"{self.processes} {processes} of {self.threads} {threads}{each}"


def fixed_layout(recipe: Recipe) -> Layout | None:
    """The layout that the recipe, the environment or the machine settles; None where the CPUs may be shared freely.

    The recipe's `processes` and `threads` come first, then `OMP_NUM_THREADS`; GPUs and torchrun have processes of
    their own.
    """
    if started_as_many() or torch.cuda.is_available():
        return Layout(threads=recipe.threads or set_threads())
    if recipe.processes or recipe.threads:
        return Layout(processes=recipe.processes or 1, threads=recipe.threads or 1)
    if "OMP_NUM_THREADS" in os.environ or cpu_quota() == 1:
        return Layout(threads=set_threads())
    return None


def choose_layout(
    layouts: Sequence[Layout], shape: Architecture, recipe: Recipe, report: Callable[[str], None]
) -> Layout:
    """Choose one of several layouts for a teacher by a short measurement, and report the choice."""
    chosen, measured = layouts[0], ""
    if len(layouts) > 1:
        rounds = [measure(shape, layouts, recipe.micro_batch, recipe.batch) for _ in range(ROUNDS)]
        chosen = best(layouts, rounds)
        complete = [each for each in layouts if all(each in rates for rates in rounds)]
        means = {each: sum(rates[each] for rates in rounds) / ROUNDS for each in complete}
        measured = ", ".join(f"{rate:.0f} images/s as {each}" for each, rate in means.items())
    report(f"training uses {chosen}" + (f"; forward and backward passes measured: {measured}" if measured else ""))
    return chosen


def candidates(shape: Architecture, recipe: Recipe, cpus: int) -> list[Layout]:
    """The layouts worth measuring, the preferred one first: as many processes as CPUs and memory allow, and one.

    The recipe's batch must divide among the processes.
    """
    processes = next(n for n in range(cpus, 0, -1) if recipe.batch % n == 0 and _fits(shape, recipe, n))
    return list(dict.fromkeys([Layout(processes=processes, threads=cpus // processes), Layout(threads=cpus)]))


def _fits(shape: Architecture, recipe: Recipe, processes: int) -> bool:
    memory = host_memory(processes=processes)
    if processes == 1 or memory is None:
        return True
    use = Use(network=Network.of(shape), settings=recipe.settings, world_size=processes, gpu=False)
    return upper_bound(shape, use, min(recipe.batch // processes, recipe.micro_batch)) <= memory


def best(layouts: Sequence[Layout], rounds: Sequence[Mapping[Layout, float]]) -> Layout:
    """The first layout, unless another is clearly faster in every round; the last where the first has no rate."""
    first = layouts[0]
    if not all(first in rates for rates in rounds):
        return layouts[-1]
    faster = (other for other in layouts[1:] if all(rates.get(other, 0.0) > BETTER * rates[first] for rates in rounds))
    return next(faster, first)


def measure(shape: Architecture, layouts: Sequence[Layout], micro_batch: int, batch: int) -> dict[Layout, float]:
    """Images/s of forward and backward passes of the network, by layout; one that takes too long has no rate.

    Each layout runs in forks that end with it, so that no pool of threads stays behind in this process.
    """
    rates = {}
    for layout in layouts:
        size = min(micro_batch, batch // layout.processes)
        rate = _measured(partial(_passes, shape, layout.threads, size), layout.processes)
        if rate is not None:
            rates[layout] = rate
    return rates


def _measured(work: Callable[[], float], processes: int) -> float | None:
    """The sum of the results of `work` in several processes at once."""
    children: dict[int, int] = {}
    gc.collect()
    for _ in range(processes):
        reader, writer = os.pipe()
        parent, pid = os.getpid(), fork()
        if not pid:
            end_with(parent)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                os.write(writer, f"{work()}".encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
        children[reader] = pid
    total, until = 0.0, time.monotonic() + PATIENCE_S
    try:
        for reader in children:
            if not select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            total += float(os.read(reader, 100) or "nan")
    finally:
        for reader, pid in children.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reader)
    return total if total > 0 else None


def _passes(shape: Architecture, threads: int, size: int) -> float:
    torch.set_num_threads(threads)
    family = shape.family
    network = network_class(family).from_config(shape.config).to(memory_format=torch.channels_last)
    latents = torch.randn(size, *family.latent_shape(shape.config)).to(memory_format=torch.channels_last)
    t, cond = torch.full((size,), 500), mapped(torch.randn_like, of_shapes(shape.conditioning, size))
    call = family.takes(network)

    def run() -> None:
        torch.autograd.backward(call(latents, t, cond).sample.square().mean())

    run()
    began, count = time.monotonic(), 0
    while not count or time.monotonic() - began < MEASURED_S:
        run()
        count += 1
    return count * size / (time.monotonic() - began)


class SlowdownDetector:
    """Detects when training has become much slower than it was: then another layout may suit the machine better."""

    def __init__(self, share: float = 0.4, patience_s: float = 30.0, pause_s: float = 300.0) -> None:
        """Args:
        share: of the best rate so far, below which training is slow.
        patience_s: for how long it must be slow.
        pause_s: the least time between two detections, which doubles each time.
        """
        self.share, self.patience_s, self.pause_s = share, patience_s, pause_s
        self._quiet_until = 0.0
        self.begin()

    def begin(self) -> None:
        """Start anew: what was a good rate before does not count."""
        self.best = self.now = 0.0
        self._slow_since: float | None = None

    def __call__(self, row: Row) -> bool:
        """Take a row of the log; whether training has become slow."""
        self.now, at = row["images_per_second"], time.monotonic()
        self.best = max(self.best, self.now)
        if self.now >= self.share * self.best:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = at
        elif at - self._slow_since >= self.patience_s and at >= self._quiet_until:
            self._quiet_until = at + self.pause_s
            self.pause_s *= 2
            return True
        return False
