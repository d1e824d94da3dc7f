"""A curation over many pods: each runs its share of a phase's tasks, and a join separates two phases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sidlsg.prompts.curation import begin, run_phase
from sidlsg.prompts.engines import Engine
from sidlsg.prompts.phases.phases import PHASES, Phase, open_tasks
from sidlsg.prompts.plan import Execution, Plan, make_plan
from sidlsg.prompts.prompt_set import SummaryWriter, Totals, finish, require_prompts
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.work import Work
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.provenance import say
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import S3

PLANNED, FINISHED = "plan", "finish"
PHASE_NAMES = tuple(phase.name for phase in PHASES)


def begin_parts(
    sources: Sequence[str],
    rules: CurationRules,
    held_out: Sequence[str],
    work: str,
    memory_gb: float = 2.0,
    skip_bad_files: bool = False,
) -> str:
    """Plan a curation in a folder or S3 prefix that all pods reach; the same call again resumes its work.

    Returns:
        The work folder of this curation, below `work`.
    """
    if not work:
        raise InputError("no work folder is given; give one on a shared volume, or an s3:// prefix")
    plan = make_plan(sources, rules, held_out, Execution(memory_gb=memory_gb, skip_bad_files=skip_bad_files))
    base = work.rstrip("/") if work.startswith(S3) else str(Path(work).expanduser().absolute())
    place = f"{base}/{plan.key()[:16]}"
    begin(place, plan)
    return place


def run_part(part: str) -> str:
    """Run one pod's share of a phase, a part that `join_parts` returned, and return the part."""
    values = parse_json(part)
    work = Work(values["place"])
    phase = next(phase for phase in PHASES if phase.name == values["phase"])
    run_phase(work, Plan.load(work), phase, Engine(), share=(values["index"], values["count"]), clear=False)
    return part


def join_parts(place: str, phase: str, pods: int) -> list[str]:
    """Check that a phase is done, and delete tables that are no longer needed.

    Args:
        place: the work folder.
        phase: whose parts all ran; `PLANNED` before the first, `FINISHED` to delete all work once the set is written.
        pods: that run at once.

    Returns:
        The next phase's parts, each as JSON; none after the last.

    Raises:
        InputError: a task is not done, or no prompt is left.
    """
    if pods < 1:
        raise InputError(f"pods is {pods}; give 1 or more")
    work = Work(place)
    if phase == FINISHED:
        work.delete("")
        return []
    plan = Plan.load(work)
    if phase == PLANNED:
        return _parts(work, plan, PHASES[0], pods)
    index = PHASE_NAMES.index(phase)
    found = PHASES[index]
    if found.needed(plan) and (left := open_tasks(work, plan, found)):
        raise InputError(f"{len(left)} tasks of the phase {phase!r} are not done in {place}; run its parts again")
    require_prompts(Totals(work, plan))
    for prefix in found.spent:
        work.delete(prefix)
    return _parts(work, plan, PHASES[index + 1], pods) if index + 1 < len(PHASES) else []


def finish_parts(
    place: str, output: str, source_sha256: str = "", copy: str = "", summary: SummaryWriter | None = None
) -> PromptSet:
    """Write the prompt set of a curation whose phases are all joined to `output` and, unless it is empty, to `copy`.

    Raises:
        ContentError: the sources' digest is not `source_sha256`, unless that is empty.
        InputError: an output is not empty and not an earlier prompt set.
    """
    work = Work(place)
    plan = Plan.load(work)
    record = finish(work, plan, output, source_sha256, summary)
    for note in Totals(work, plan).notes():
        say(note)
    if copy:
        finish(work, plan, copy, summary=summary)
    return record


def _parts(work: Work, plan: Plan, phase: Phase, pods: int) -> list[str]:
    """One part a pod or task, whichever are fewer. A phase that is not needed has one empty part: a loop over nothing
    would end the pipeline."""
    tasks = phase.count(work, plan) if phase.needed(plan) else 1
    count = max(1, min(pods, tasks))
    part = {"place": work.uri, "phase": phase.name, "count": count}
    return [json.dumps(part | {"index": index}) for index in range(count)]
