"""The phases of a curation in order: the tasks of each, and the tables that are not needed after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sidlsg.prompts.phases import near_duplicates
from sidlsg.prompts.phases.exact_duplicates import unique
from sidlsg.prompts.phases.scan import scan
from sidlsg.prompts.phases.selection import settle, shards_of, trim, write
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.work import Task, Work


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Tasks that may run in parallel, once all tasks of earlier phases are done."""

    name: str
    run: Callable[[Work, Plan, int], dict[str, Any]]
    """Does one task; may be repeated."""
    count: Callable[[Work, Plan], int]
    """The number of tasks; may read results of earlier phases."""
    needed: Callable[[Plan], bool] = lambda _: True
    """Whether the rules require it."""
    spent: tuple[str, ...] = ()
    """Prefixes of tables that are not read after this phase."""


def _buckets(_: Work, plan: Plan) -> int:
    return plan.buckets


def _similar(plan: Plan) -> bool:
    return bool(plan.rules.duplicates.similarity)


PHASES = (
    Phase(name="scan", run=scan, count=lambda _, plan: len(plan.pieces)),
    Phase(name="unique", run=unique, count=_buckets, spent=("scan/",)),
    Phase(name="pairs", run=near_duplicates.pairs, count=_buckets, needed=_similar, spent=("bands/",)),
    Phase(name="left", run=near_duplicates.left, count=_buckets, needed=_similar, spent=("pairs/",)),
    Phase(name="verify", run=near_duplicates.verify, count=_buckets, needed=_similar, spent=("left/", "sketches/")),
    Phase(name="groups", run=near_duplicates.groups, count=lambda *_: 1, needed=_similar, spent=("edges/",)),
    Phase(name="settle", run=settle, count=_buckets),
    Phase(name="trim", run=trim, count=_buckets, needed=lambda plan: plan.rules.balance.maximum_per_bin > 0),
    Phase(name="write", run=write, count=lambda work, plan: len(shards_of(work, plan))),
)


@lru_cache(maxsize=1)
def _opened(uri: str) -> Work:
    return Work(uri)


def run_task(uri: str, task: Task) -> None:
    """Do one task of a work folder; this is what engines run."""
    work = _opened(uri)
    plan = Plan.load(work)
    phase = next(phase for phase in PHASES if phase.name == task.phase)
    work.finish(task, phase.run(work, plan, task.number))


def forget() -> None:
    """Drop the cached work folder before another curation begins in this process."""
    _opened.cache_clear()


def open_tasks(work: Work, plan: Plan, phase: Phase) -> list[Task]:
    """The tasks of a phase that are not done."""
    done = work.done(phase.name)
    return [Task(phase.name, number) for number in range(phase.count(work, plan)) if number not in done]
