"""The phases of a curation in their order: which tasks each has, and which tables nobody needs after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sidlsg.prompts.phases import near
from sidlsg.prompts.phases.scan import scan
from sidlsg.prompts.phases.selection import settle, shards_of, trim, write
from sidlsg.prompts.phases.unique import unique
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.work import Task, Work


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Tasks that may run side by side, once all tasks of the phases before are done."""

    name: str
    run: Callable[[Work, Plan, int], dict[str, Any]]
    """Does one task; the same again does no harm."""
    count: Callable[[Work, Plan], int]
    """How many tasks there are; may read what earlier phases found."""
    needed: Callable[[Plan], bool] = lambda _: True
    """Whether the rules ask for it."""
    spent: tuple[str, ...] = ()
    """Tables that nobody reads after this phase."""


def _a_bucket(work: Work, plan: Plan) -> int:
    del work
    return plan.buckets


def _similar(plan: Plan) -> bool:
    return bool(plan.rules.duplicates.similarity)


PHASES = (
    Phase(name="scan", run=scan, count=lambda _, plan: len(plan.pieces)),
    Phase(name="unique", run=unique, count=_a_bucket, spent=("scan/",)),
    Phase(name="pairs", run=near.pairs, count=_a_bucket, needed=_similar, spent=("bands/",)),
    Phase(name="left", run=near.left, count=_a_bucket, needed=_similar, spent=("pairs/",)),
    Phase(name="verify", run=near.verify, count=_a_bucket, needed=_similar, spent=("left/", "sketches/")),
    Phase(name="groups", run=near.groups, count=lambda *_: 1, needed=_similar, spent=("edges/",)),
    Phase(name="settle", run=settle, count=_a_bucket),
    Phase(name="trim", run=trim, count=_a_bucket, needed=lambda plan: plan.rules.balance.maximum_per_bin > 0),
    Phase(name="write", run=write, count=lambda work, plan: len(shards_of(work, plan))),
)


@lru_cache(maxsize=1)
def _opened(place: str) -> Work:
    return Work(place)


def run_task(place: str, task: Task) -> None:
    """Do one task of a work folder; this is what an engine runs, wherever it does.

    Raises:
        InputError: an input cannot be used.
        StorageError: a server did not answer.
        OSError: a disk is full, or the like.
    """
    work = _opened(place)
    plan = Plan.load(work)
    phase = next(phase for phase in PHASES if phase.name == task.phase)
    work.finish(task, phase.run(work, plan, task.number))


def forget() -> None:
    """Forget what this process knows of work folders, before another curation begins in it."""
    _opened.cache_clear()


def open_tasks(work: Work, plan: Plan, phase: Phase) -> list[Task]:
    """The tasks of a phase that are not done."""
    done = work.done(phase.name)
    return [Task(phase.name, number) for number in range(phase.count(work, plan)) if number not in done]
