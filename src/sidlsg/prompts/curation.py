"""The `curate` stage: from tables of captions to a `PromptSet`, on one machine, a Ray cluster or many pods."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sidlsg.prompts.engines import Engine, open_engine
from sidlsg.prompts.output import check_apart, check_output
from sidlsg.prompts.phases.phases import PHASES, Phase, open_tasks
from sidlsg.prompts.phases.row_steps import StepCount
from sidlsg.prompts.plan import IN_PROCESS, PLAN_FILE, Execution, Plan, make_plan
from sidlsg.prompts.prompt_set import SummaryWriter, Totals, finish, require_prompts
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.work import NothingLeftError, Task, Work, work_folder
from sidlsg.runtime.errors import ContentError, InputError, SidlsgError
from sidlsg.runtime.progress import Meter
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import S3

TASKS_SHOWN = 8
"""Fewest tasks of a phase whose progress is shown."""


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
    how the rows are spread over them. Prompts are ordered by the SHA-256 of their case-folded texts. After a kill, the
    same call resumes at the tasks that were not finished.

    Args:
        sources: URIs of files, folders or prefixes, as `search_inputs` takes them; or one local path.
        output: folder or S3 prefix of the set; an earlier set is replaced.
        rules: what a row must have.
        held_out: evaluation captions to remove in any spelling.
        execution: how it runs.
        report: receives lines for the user.
        summary: writes pages that show the statistics; None for no pages.

    Raises:
        InputError: a source cannot be used, no prompt is left after a step, or `output` holds something else.
            Nothing is written then.
        StorageError: an S3 server did not answer.
        SidlsgError: a worker ended.
    """
    uris = [str(sources)] if isinstance(sources, Path) else list(sources)
    target = str(output)
    if Path(target).is_symlink():
        # The link stays, and its target is replaced.
        target = os.path.realpath(target)
    # Before the sources are read, which can take long.
    check_output(target)
    if execution.engine.startswith("ray:") and not execution.work:
        raise InputError(
            f"engine {execution.engine} is a cluster, so --work must name a folder that all its machines reach: an "
            f"{S3} prefix or a folder on a shared disk"
        )
    plan = make_plan(uris, rules, held_out, execution)
    check_apart(target, execution.work, uris, [file.place for file in plan.files])
    with work_folder(target, execution.work, plan.key()) as folder:
        work, plan = begin(folder, plan)
        engine = open_engine(execution.engine, execution.workers)
        try:
            started = time.monotonic()
            for phase in PHASES:
                run_phase(work, plan, phase, engine)
                if phase.name in ("scan", "unique"):
                    require_prompts(Totals(work, plan))
            report(f"curated in {time.monotonic() - started:.1f} s")
        except NothingLeftError:
            raise
        except (SidlsgError, OSError, KeyboardInterrupt):
            report(f"finished tasks are kept in {folder}; the same command resumes there, another one deletes them")
            raise
        finally:
            engine.close()
        record = finish(work, plan, target, summary=summary)
        for note in Totals(work, plan).notes():
            report(note)
        return record


def preview(
    sources: Sequence[str], rules: CurationRules, held_out: Sequence[str], rows: int, execution: Execution
) -> tuple[dict[str, StepCount], list[str]]:
    """The funnel of a sample of about `rows` rows, and notes of what was not read; nothing is left on the disk."""
    plan = make_plan(sources, rules, held_out, execution, sample=rows)
    with tempfile.TemporaryDirectory() as folder:
        work, plan = begin(folder, plan)
        for phase in PHASES:
            if phase.name != "write":
                run_phase(work, plan, phase, Engine())
        totals = Totals(work, plan)
        return totals.funnel, totals.notes()


def begin(folder: str, plan: Plan) -> tuple[Work, Plan]:
    """Prepare a work folder: store the plan.

    Returns:
        The folder and its plan. Earlier work there that is cut at least as finely is continued with its own cut.
    """
    work = Work(folder)
    with contextlib.suppress(ContentError):
        before = Plan.load(work)
        if before.buckets >= plan.buckets:
            plan = dataclasses.replace(plan, buckets=before.buckets)
        else:
            work.delete("")
    work.store.write(PLAN_FILE, plan.to_json().encode())
    return work, plan


def run_phase(
    work: Work, plan: Plan, phase: Phase, engine: Engine, share: tuple[int, int] = (0, 1), clear: bool = True
) -> None:
    """Run the tasks of one phase that are not done.

    With a share (i, n), every n-th task from the i-th on, while others run the rest. `clear` deletes tables that are no
    longer needed, which is right only where this call runs all tasks.
    """
    if not phase.needed(plan):
        return
    index, count = share
    tasks = [task for task in open_tasks(work, plan, phase) if task.number % count == index]
    if len(tasks) >= TASKS_SHOWN or (tasks and phase.name == "scan"):
        _run_shown(work, plan, phase, tasks, engine)
    elif tasks:
        engine.run(work.uri, tasks, lambda _: None)
    if clear:
        for prefix in phase.spent:
            work.delete(prefix)


def _run_shown(work: Work, plan: Plan, phase: Phase, tasks: Sequence[Task], engine: Engine) -> None:
    """Run tasks, and show how many are finished; of `scan`, how many rows."""
    if phase.name == "scan":
        counts, unit = [min(piece.rows, plan.sample_rows or piece.rows) for piece in plan.pieces], "rows"
    else:
        counts, unit = [1] * phase.count(work, plan), "tasks"
    finished = sum(counts) - sum(counts[task.number] for task in tasks)
    with Meter(f"curate: {phase.name}", sum(counts), unit, finished) as meter:

        def done(task: Task) -> None:
            nonlocal finished
            finished += counts[task.number]
            meter.update(finished)

        engine.run(work.uri, tasks, done)
