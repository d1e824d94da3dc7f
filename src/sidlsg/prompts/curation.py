"""The `curate` stage: from tables of captions to a `PromptSet`, on one machine, a Ray cluster or many pods."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.prompts.engines import Engine, Inline, open_engine
from sidlsg.prompts.output import check_apart, check_output, check_outside
from sidlsg.prompts.phases.phases import PHASES, Phase, open_tasks
from sidlsg.prompts.phases.row_steps import StepCount
from sidlsg.prompts.phases.unique import prepare_held_out
from sidlsg.prompts.plan import PLAN_FILE, Plan, make_plan, stamps
from sidlsg.prompts.prompt_set import Made, SummaryWriter, finish, require_prompts
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.work import NothingLeftError, Task, Work, work_place
from sidlsg.runtime.errors import ContentError, InputError, SidlsgError
from sidlsg.runtime.progress import Meter
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import S3

MEGABYTE = 1e6
TASKS_SHOWN = 8
"""Phases of fewer tasks end before a line about them would be of use."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a curation runs; nothing here changes its result, but for files that are skipped."""

    engine: str = "native"
    """`native` for this machine, `ray`, `ray:auto` or `ray://HOST:PORT`."""
    workers: int = 1
    """Tasks at once."""
    memory_gb: float = 2.0
    """What all workers of this machine may take, in 10⁹ bytes."""
    work: str = ""
    """A folder or S3 prefix for what is unfinished; by default beside the output."""
    rows_per_shard: int = 65536
    """The most prompts in one shard of the output."""
    skip_bad_files: bool = False
    """Leave out files that cannot be read, and list them in the manifest."""
    source_sha256: str = ""
    """What the digest of the sources must be; empty for no check."""


IN_PROCESS = Execution()


def curate(
    sources: Sequence[str] | Path,
    output: Path | str,
    rules: CurationRules,
    held_out: Sequence[str],
    execution: Execution = IN_PROCESS,
    report: Callable[[str], None] = lambda _: None,
    summary: SummaryWriter | None = None,
) -> PromptSet:
    """Select, clean, deduplicate and order the prompts of tables.

    Equal inputs give equal bytes, whatever the machine, the engine, the number of workers, the order of the files and
    how the rows are spread over them. The order is that of the SHA-256 of the prompts' case-folded texts. A killed
    call is continued by the same one, at the tasks that were not finished.

    Args:
        sources: places of files, folders or prefixes, as `find_inputs` takes them; or one local path.
        output: the folder or S3 prefix of the set, replaced if it is an earlier output.
        rules: what a row must have.
        held_out: evaluation captions that are removed, however they are written.
        execution: how it runs.
        report: receives lines for the user.
        summary: writes the pages beside the statistics; None for none.

    Raises:
        InputError: a source cannot be used, no prompt is left after a step, or `output` holds something else.
            Nothing is written then.
        StorageError: an S3 server did not answer.
        SidlsgError: a worker ended.
    """
    places = [str(sources)] if isinstance(sources, Path) else list(sources)
    target = str(output)
    if Path(target).is_symlink():
        # What it leads to is replaced, and not the link.
        target = os.path.realpath(target)
    # Before the sources are read, which can take long.
    check_output(target)
    if execution.engine.startswith("ray:") and not execution.work:
        raise InputError(
            f"engine {execution.engine} is a cluster, so --work must name a place that all its machines reach: an "
            f"{S3} prefix or a folder on a shared disk"
        )
    plan = _plan(places, rules, held_out, execution)
    check_outside(target, execution.work, places)
    check_apart(target, execution.work, [file.place for file in plan.files])
    with work_place(target, execution.work, plan.key(stamps(plan))) as place:
        work, plan = begin(place, plan)
        engine = open_engine(execution.engine, execution.workers)
        try:
            run_phases(work, plan, engine, report)
        except NothingLeftError:
            raise
        except (SidlsgError, OSError, KeyboardInterrupt):
            report(f"what is done lies in {place}; the same command goes on from there, another one clears it away")
            raise
        finally:
            engine.close()
        record = finish(work, plan, target, execution.source_sha256, summary)
        for note in Made(work, plan).notes():
            report(note)
        return record


def preview(
    sources: Sequence[str], rules: CurationRules, held_out: Sequence[str], rows: int, execution: Execution
) -> tuple[dict[str, StepCount], list[str]]:
    """The funnel of a sample, and notes of what was not read; nothing is left on the disk.

    Args:
        sources: as for `curate`.
        rules: what a row must have.
        held_out: evaluation captions.
        rows: about how many to read, spread over the sources.
        execution: how it runs.

    Raises:
        InputError: a source cannot be used.
        StorageError: an S3 server did not answer.
    """
    plan = _plan(sources, rules, held_out, execution, sample=rows)
    with tempfile.TemporaryDirectory() as place:
        work, plan = begin(place, plan)
        for phase in PHASES:
            if phase.name != "write":
                run_phase(work, plan, phase, Inline())
        made = Made(work, plan)
        return made.funnel(), made.notes()


def begin(place: str, plan: Plan) -> tuple[Work, Plan]:
    """A work folder with a plan in it, and what its tasks share.

    Returns:
        The folder and its plan: where work was left that is cut at least as fine, that cut goes on.
    """
    work = Work(place)
    with contextlib.suppress(ContentError):
        before = Plan.load(work)
        if before.buckets >= plan.buckets:
            plan = dataclasses.replace(plan, buckets=before.buckets)
        else:
            work.delete("")
    prepare_held_out(work, plan)
    work.write(PLAN_FILE, plan.to_json().encode())
    return work, plan


def run_phases(work: Work, plan: Plan, engine: Engine, report: Callable[[str], None]) -> None:
    """Run all phases, each after the other, from where an earlier call stopped.

    Raises:
        InputError: no prompt is left after a step, or a source cannot be used.
    """
    started = time.monotonic()
    for phase in PHASES:
        run_phase(work, plan, phase, engine)
        if phase.name in ("scan", "unique"):
            require_prompts(plan, Made(work, plan))
    report(f"curated in {time.monotonic() - started:.1f} s")


def run_phase(
    work: Work, plan: Plan, phase: Phase, engine: Engine, share: tuple[int, int] = (0, 1), clear: bool = True
) -> None:
    """Run the tasks of one phase that are not done.

    Args:
        work: the work folder.
        plan: of the curation.
        phase: whose tasks.
        engine: where they run.
        share: (i, n) to run every n-th task from the i-th on; others run the rest.
        clear: delete the tables that are read no more; only where this call runs all tasks.
    """
    if not phase.needed(plan):
        return
    index, count = share
    total = phase.count(work, plan)
    tasks = [task for task in open_tasks(work, plan, phase) if task.number % count == index]
    if len(tasks) >= TASKS_SHOWN or (tasks and phase.name == "scan"):
        meter = _ScanMeter(plan, tasks) if phase.name == "scan" else _TaskMeter(phase.name, total, tasks)
        with meter.meter:
            engine.run(work.place, tasks, meter.done)
    elif tasks:
        engine.run(work.place, tasks, lambda _: None)
    if clear:
        for prefix in phase.spent:
            work.delete(prefix)


class _TaskMeter:
    """Shows how many tasks of a phase are done."""

    def __init__(self, name: str, total: int, tasks: Sequence[Task]) -> None:
        self._count = total - len(tasks)
        self.meter = Meter(f"curate: {name}", total, "tasks", self._count)

    def done(self, task: Task) -> None:
        """Count one more."""
        del task
        self._count += 1
        self.meter.update(self._count)


class _ScanMeter:
    """Shows how many rows and bytes of the sources were read."""

    def __init__(self, plan: Plan, tasks: Sequence[Task]) -> None:
        self._rows = [min(piece.rows, plan.sample_rows or piece.rows) for piece in plan.pieces]
        by_file: dict[int, int] = {}
        for piece in plan.pieces:
            by_file[piece.file] = by_file.get(piece.file, 0) + piece.rows
        self._bytes = [plan.files[piece.file].size * piece.rows / max(by_file[piece.file], 1) for piece in plan.pieces]
        total = sum(self._rows)
        self._done = total - sum(self._rows[task.number] for task in tasks)
        self._read = 0.0
        self._began = time.monotonic()
        self.meter = Meter("curate: scan", total, "rows", self._done)

    def done(self, task: Task) -> None:
        """Count one more."""
        self._done += self._rows[task.number]
        self._read += self._bytes[task.number]
        rate = self._read / MEGABYTE / max(time.monotonic() - self._began, 1e-9)
        self.meter.update(self._done, f"{rate:,.1f} MB/s")


def _plan(
    places: Sequence[str], rules: CurationRules, held_out: Sequence[str], execution: Execution, sample: int = 0
) -> Plan:
    if sample < 0:
        raise InputError(f"the sample is of {sample} rows; give 1 or more")
    return make_plan(
        places,
        rules,
        held_out,
        workers=execution.workers,
        memory_gb=execution.memory_gb,
        rows_per_shard=execution.rows_per_shard,
        skip_bad_files=execution.skip_bad_files,
        sample=sample,
    )
