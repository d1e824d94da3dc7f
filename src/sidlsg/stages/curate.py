"""The `curate` stage: makes a prompt set and its summary from tables of captions and the held-out captions.

It runs in one process with its workers, or in many pods: a plan, the parts and a join of each phase, and a finish.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sidlsg.prompts import curation, pods
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.pods import join_parts as curate_join_step
from sidlsg.prompts.pods import run_part as curate_part_step
from sidlsg.prompts.source.files import require_state
from sidlsg.report.curation import write_summary
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import changes_text
from sidlsg.runtime.provenance import CHECKPOINTS_VARIABLE, CURATE_VARIABLES
from sidlsg.stages import timed
from sidlsg.stages.inputs import curation_rules
from sidlsg.storage.records import PromptSet
from sidlsg.storage.uri import resolve, split_list

__all__ = ["curate", "curate_finish_step", "curate_join_step", "curate_part_step", "curate_plan_step", "curate_step"]


curate = partial(curation.curate, summary=write_summary)
"""Curate in this process and its workers, with summary pages; see `sidlsg.prompts.curation.curate`."""


@timed
def curate_step(source: str, source_state: str, held_out: str, rules: Mapping[str, Any], prompt_set: Path) -> PromptSet:
    """Curate with the environment's settings; the sources must be in the given state before and after."""
    sources = split_list(source, ";")
    if source_state:
        require_state(sources, source_state)
    captions = read_held_out(resolve(held_out))
    record = curate(sources, prompt_set, curation_rules(changes_text(rules)), captions, _execution(), print)
    if source_state:
        require_state(sources, source_state)
    return record


def curate_plan_step(
    source: str, held_out: str, rules: Mapping[str, Any], work: str, memory_gb: float, skip_bad_files: bool
) -> str:
    """Split the work into tasks for pods; return the work folder of this curation."""
    captions = read_held_out(resolve(held_out))
    sources = split_list(source, ";")
    return pods.begin_parts(sources, curation_rules(changes_text(rules)), captions, work, memory_gb, skip_bad_files)


def curate_finish_step(
    place: str, parts: Sequence[str], source_sha256: str, output: str, prompt_set: Path, html: Path
) -> PromptSet:
    """Write the prompt set and the summary of a curation whose phases are done."""
    if parts:
        raise ValueError(f"parts {parts} of the last phase are left")
    record = pods.finish_parts(place, str(prompt_set), source_sha256, output, write_summary)
    html.write_bytes((prompt_set / "summary.html").read_bytes())
    return record


def _execution() -> Execution:
    """Execution settings from the step's environment; by default one worker and 2 GB of memory."""
    engine, workers, memory = (os.environ.get(name, "") for name in CURATE_VARIABLES)
    checkpoints = os.environ.get(CHECKPOINTS_VARIABLE, "")
    try:
        return Execution(
            engine=engine or "native",
            workers=int(workers or 1),
            memory_gb=float(memory or 2),
            work=f"{checkpoints}/curate" if checkpoints else "",
        )
    except ValueError as error:
        names = " and ".join(CURATE_VARIABLES[1:])
        raise InputError(f"{names} are {workers!r} and {memory!r}; give numbers") from error
