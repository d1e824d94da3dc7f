"""Kills tiny runs at random moments, continues them, and compares each with one that was left alone.

`python tests/long/kill_run.py` does 50 `kill -9` and 10 SIGTERM on one process, and some of both on two.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from sidlsg.distil.recipes import RECIPES
from sidlsg.runtime.errors import StoppedError
from unbreakable.runs import ASSETS, PATIENCE_S, RECIPE, Process, Result, TinyRun, make_prompts, make_real_images

TRIES = 8
"""A moment may come too late: the run has ended by itself. Then another is drawn."""
GRACE_S = 60.0
"""How long processes may take to notice that one of them is gone."""


class TrialError(Exception):
    """A run that was killed did not end as it should."""


@dataclass(frozen=True)
class Kind:
    """One way to end a run."""

    name: str
    processes: int
    end: Callable[[TinyRun, Process, random.Random], str]
    """Ends it; what happened, or an empty text where it had ended before."""


@dataclass
class Harness:
    """What every trial needs."""

    folder: Path
    prompts: Path
    seed: int
    whole: dict[int, Result]
    """By number of processes: the uninterrupted run's result."""
    seconds: dict[int, float]
    """How long that took."""
    recipe: str = "tiny"
    real_images: Path | None = None
    teacher: Path = ASSETS / "tiny-sd"

    @classmethod
    def make(cls, folder: Path, seed: int, processes: set[int], recipe: str, teacher: Path) -> Harness:
        """Run once without interruption for each number of processes."""
        real_images = make_real_images(folder / "real") if RECIPES[recipe].adversarial else None
        harness = cls(folder, make_prompts(folder / "prompts"), seed, {}, {}, recipe, real_images, teacher)
        for count in sorted(processes):
            run = harness.run(f"whole-{count}", count)
            began = time.monotonic()
            if run.finish():
                raise TrialError(f"the uninterrupted run failed: {run.said()}")
            harness.seconds[count] = time.monotonic() - began
            harness.whole[count] = run.result()
            say(f"uninterrupted, {count} process(es): {harness.seconds[count]:.1f} s")
        return harness

    def run(self, name: str, processes: int) -> TinyRun:
        """A run in a folder of that name."""
        more = {"recipe": self.recipe, "real_images": self.real_images, "teacher": self.teacher}
        return TinyRun(self.folder / name, self.prompts, processes, **more)

    def trial(self, kind: Kind, number: int) -> str:
        """Start a run, end it, continue it until it is done and compare; what happened on the way."""
        draw = random.Random(f"{self.seed}/{kind.name}/{number}")
        for _ in range(TRIES):
            run = self.run(f"{kind.name}-{number}", kind.processes)
            shutil.rmtree(run.folder, ignore_errors=True)
            story = []
            # Some are ended once more while they continue.
            for _ in range(1 if draw.random() < 0.75 else 2):
                process = run.start()
                try:
                    story.append(kind.end(run, process, draw))
                finally:
                    kill_all(process.pid)
                    process.wait()
            if story[0]:
                break
        else:
            raise TrialError(f"{kind.name} {number}: {TRIES} runs ended before they could be ended")
        code = run.finish()
        if code:
            raise TrialError(f"{kind.name} {number}: the continued run's exit code is {code}: {run.said()}")
        problem = self.whole[kind.processes].difference(run.result())
        if problem is not None or run.remains():
            raise TrialError(f"{kind.name} {number}: {problem or run.remains()}: {run.said()}")
        shutil.rmtree(run.folder)
        line = f"{kind.name} {number}: {', '.join(text for text in story if text)}; same result"
        say(line)
        return line

    def kill(self, run: TinyRun, process: Process, draw: random.Random) -> str:
        """`kill -9` all its processes."""
        when = self._wait(run, process, draw)
        if process.poll() is not None:
            return ""
        kill_all(process.pid)
        process.wait()
        return f"killed {when}{_traces(run)}"

    def kill_worker(self, run: TinyRun, process: Process, draw: random.Random) -> str:
        """`kill -9` one worker; the rest must end by itself, and soon."""
        when = self._wait(run, process, draw)
        workers = descendants(process.pid)
        if process.poll() is not None or len(workers) < run.processes:
            return ""
        victim = draw.choice(workers)
        _kill(victim, signal.SIGKILL)
        began = time.monotonic()
        if process.wait(GRACE_S) == 0:
            return ""
        return f"killed worker {workers.index(victim)} {when}, all ended {time.monotonic() - began:.1f} s later"

    def terminate(self, run: TinyRun, process: Process, draw: random.Random) -> str:
        """SIGTERM while it trains: it saves its state and says so by its exit code."""
        _until(lambda: _listens(process.pid), process)
        time.sleep(draw.uniform(0, 0.5 * self.seconds[run.processes]))
        if process.poll() is not None or not _listens(process.pid):
            return ""
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)
        if code == 0:
            return ""
        if code != StoppedError.exit_code:
            raise TrialError(f"exit code {code} after SIGTERM: {run.said()}")
        if run.remains():
            raise TrialError(f"after SIGTERM there is {run.remains()}")
        return f"SIGTERM{_traces(run)}"

    def terminate_all(self, run: TinyRun, process: Process, draw: random.Random) -> str:
        """SIGTERM to one worker: all save their parts and end."""
        _until(lambda: any(_listens(pid) for pid in descendants(process.pid)), process)
        time.sleep(draw.uniform(0, 0.4 * self.seconds[run.processes]))
        listening = [pid for pid in descendants(process.pid) if _listens(pid)]
        if process.poll() is not None or len(listening) < run.processes:
            return ""
        _kill(draw.choice(listening), signal.SIGTERM)
        if process.wait(PATIENCE_S) == 0:
            return ""
        if run.remains():
            raise TrialError(f"after SIGTERM there is {run.remains()}: {run.said()}")
        return f"SIGTERM to one worker{_traces(run)}"

    def _wait(self, run: TinyRun, process: Process, draw: random.Random) -> str:
        """Wait for a random moment; which one it was."""
        choice = draw.random()
        if choice < 0.35:
            seconds = draw.uniform(0, self.seconds[run.processes])
            _until(lambda: False, process, seconds)
            return f"after {seconds:.2f} s"
        if choice < 0.75:
            name = f".unfinished-{self._checkpoint(draw):09d}"
            _until((run.checkpoints / name).exists, process)
            delay = draw.uniform(0, 0.1)
            time.sleep(delay)
            return f"{1000 * delay:.0f} ms into writing {name[-1]}"
        if choice < 0.9:
            name = f"{self._checkpoint(draw):09d}"
            _until((run.checkpoints / name).exists, process)
            delay = draw.uniform(0, 0.5)
            time.sleep(delay)
            return f"{1000 * delay:.0f} ms after checkpoint {name[-1]}"
        _until(lambda: any(run.folder.glob(".student.*")), process)
        delay = draw.uniform(0, 0.2)
        time.sleep(delay)
        return f"{1000 * delay:.0f} ms into the export"

    def _checkpoint(self, draw: random.Random) -> int:
        every = int(RECIPE["checkpoint_every"])
        return every * draw.randint(1, int(RECIPE["iterations"]) // every)


def _until(condition: Callable[[], bool], process: Process, seconds: float = PATIENCE_S) -> None:
    """Wait for a condition, the process's end or a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.002)


def _listens(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM, by what the system says."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    found, look = [], [pid]
    while look:
        mine = sorted(child for child, parent in parents.items() if parent in look)
        found += mine
        look = mine
    return found


def kill_all(pid: int) -> None:
    """`kill -9` a process and all below it."""
    for each in (pid, *descendants(pid)):
        _kill(each, signal.SIGKILL)


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _traces(run: TinyRun) -> str:
    remains = run.remains()
    newest = run.manifest().get("iteration")
    half = " and a half" if run.halfway() else ""
    return f" (newest checkpoint {newest}{half}{', left ' + ' '.join(remains) if remains else ''})"


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)


def kill_runs(
    folder: Path,
    kills: int,
    terms: int,
    seed: int,
    workers: int = 0,
    terms_of_many: int = 0,
    at_once: int = 1,
    recipe: str = "tiny",
    teacher: Path = ASSETS / "tiny-sd",
) -> list[str]:
    """Do all trials.

    Args:
        folder: receives the runs.
        kills: `kill -9` on one process.
        terms: SIGTERM on one process; more follow until one fell between the two updates of an iteration.
        seed: of the moments.
        workers: for two processes: `kill -9` on all of them, and as many on one of the two.
        terms_of_many: SIGTERM to one of two processes.
        at_once: how many trials run side by side.
        recipe: its name.
        teacher: its folder.

    Returns:
        What happened, a line a trial.

    Raises:
        TrialError: a run did not end as the uninterrupted one.
    """
    harness = Harness.make(folder, seed, {1, 2} if workers or terms_of_many else {1}, recipe, teacher)
    kinds = {
        Kind("kill", 1, harness.kill): kills,
        Kind("term", 1, harness.terminate): terms,
        Kind("kill-all-of-2", 2, harness.kill): workers,
        Kind("kill-1-of-2", 2, harness.kill_worker): workers,
        Kind("term-1-of-2", 2, harness.terminate_all): terms_of_many,
    }
    with ThreadPoolExecutor(at_once) as pool:
        trials = [pool.submit(harness.trial, kind, i) for kind, count in kinds.items() for i in range(count)]
        try:
            lines = [trial.result() for trial in trials]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    term = Kind("term", 1, harness.terminate)
    for number in range(terms, terms + TRIES if terms else terms):
        if any("and a half" in line for line in lines):
            break
        lines.append(harness.trial(term, number))
    else:
        if terms:
            raise TrialError("no SIGTERM fell between the two updates of an iteration")
    return lines


def main() -> None:
    """Parse the options, do the trials, count them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--terms-of-many", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default="tiny")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-run-") as folder:
        lines = kill_runs(Path(folder), **vars(options))
    say(f"{len(lines)} runs were ended and continued to the same result, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
