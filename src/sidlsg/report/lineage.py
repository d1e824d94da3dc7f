"""Where a version came from: the chain of records, the values that it was made with, the prompts that were kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidlsg.report.outcome import RunRecords
from sidlsg.runtime.formatting import counted, duration, plain
from sidlsg.storage.records import FunnelStep, Student


@dataclass(frozen=True, kw_only=True)
class Link:
    """One record of the chain."""

    name: str
    summary: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class FunnelRow:
    """One curation step."""

    name: str
    removed: int
    left: int
    share: float
    """Of the rows that were read, in percent."""


def chain(records: RunRecords) -> list[Link]:
    """The records in the order of the stages."""
    prompts, student, version = records.prompts, records.student, records.version
    scorecard, verdict, promotion = records.scorecard, records.verdict, records.promotion
    passed = sum(rule.passed for rule in verdict.rules)
    shards = counted(len(prompts.shards), "shard", "shards")
    scored = counted(len(scorecard.subjects), "subject", "subjects")
    champion = "no champion" if promotion.champion_version is None else f"champion {promotion.champion_version}"
    previous = "none" if promotion.previous_version is None else promotion.previous_version
    rows = (
        ("Prompts", f"{counted(prompts.count, 'prompt', 'prompts')} in {shards}", prompts.digest),
        (
            "Student",
            f"recipe {student.recipe}, {counted(student.images_seen, 'image', 'images')} seen",
            student.digest,
        ),
        ("Version", f"{version.name} {version.version}, run {version.run_id}", version.digest),
        ("Scorecard", f"{scored}, scored in {duration(scorecard.seconds)}", scorecard.digest),
        (
            "Verdict",
            f"{'passed' if verdict.passed else 'rejected'}, {passed} of {len(verdict.rules)} rules met",
            verdict.digest,
        ),
        ("Promotion", f"{champion}, previous: {previous}", promotion.digest),
    )
    return [Link(name=name, summary=summary, digest=digest) for name, summary, digest in rows]


def digests(records: RunRecords) -> list[tuple[str, str]]:
    """Every digest in full, by what it is of."""
    rows = [(f"{link.name} record", link.digest) for link in chain(records)]
    rows += [
        ("Prompt source", records.prompts.source_sha256),
        ("Curation rules", records.prompts.rules_sha256),
        ("Held-out prompts", records.prompts.held_out_sha256),
        ("Teacher", records.student.teacher_sha256),
        ("Package, when the student was trained", records.student.package_sha256),
        ("Package, when it was evaluated", records.scorecard.package_sha256),
        ("Gate rules", records.verdict.rules_sha256),
    ]
    return rows


def made_with(student: Student) -> list[tuple[str, str]]:
    """The values that say most, in words."""
    recipe = student.recipe_values
    rows: list[tuple[str, Any]] = [
        ("Recipe", student.recipe),
        ("Guidance strategy", student.strategy),
        *((f"κ{index}", kappa) for index, kappa in enumerate(student.kappas, 1)),
        ("α", recipe.get("alpha")),
        ("t_init", student.t_init),
        ("Batch", recipe.get("batch")),
        ("Seed", str(student.seed)),
        ("Iterations", student.iterations),
        ("Images seen", student.images_seen),
        ("Training time", duration(student.seconds)),
        ("Hardware", student.hardware),
    ]
    return [(name, plain(value)) for name, value in rows if value is not None]


def recipe_values(student: Student) -> list[tuple[str, str]]:
    """Every value of the recipe as it ran, by name."""
    return [(name, plain(value)) for name, value in sorted(student.recipe_values.items())]


def funnel_rows(funnel: tuple[FunnelStep, ...]) -> list[FunnelRow]:
    """The curation steps with what each removed."""
    read = max((step.rows_in for step in funnel), default=0)
    return [
        FunnelRow(
            name=step.name.replace("_", " "),
            removed=step.rows_in - step.rows_out,
            left=step.rows_out,
            share=100 * step.rows_out / read if read else 0.0,
        )
        for step in funnel
    ]
