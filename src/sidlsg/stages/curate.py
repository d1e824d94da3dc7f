"""The `curate` stage: tables of captions and the held-out captions in, a prompt set with its summary out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sidlsg.prompts import curation, pods
from sidlsg.prompts.plan import IN_PROCESS, Execution
from sidlsg.prompts.rules import CurationRules
from sidlsg.report.curation import write_summary
from sidlsg.storage.records import PromptSet


def curate(
    sources: Sequence[str] | Path,
    output: Path | str,
    rules: CurationRules,
    held_out: Sequence[str],
    execution: Execution = IN_PROCESS,
    report: Callable[[str], None] = lambda _: None,
) -> PromptSet:
    """Curate in this process and its workers; see `sidlsg.prompts.curation.curate`."""
    return curation.curate(sources, output, rules, held_out, execution, report, write_summary)


def finish_parts(place: str, output: str, source_sha256: str = "", copy: str = "") -> PromptSet:
    """Write the prompt set that pods have curated; see `sidlsg.prompts.pods.finish_parts`."""
    return pods.finish_parts(place, output, source_sha256, copy, write_summary)
