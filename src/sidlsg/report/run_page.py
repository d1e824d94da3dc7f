"""Writes the report of a run: one HTML file that loads nothing, from the records and files of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.report import scores, training
from sidlsg.report.contenders import Entry
from sidlsg.report.page import render, sample_strip, subject_grids
from sidlsg.report.scoreboard import scoreboard as board_of
from sidlsg.runtime import costs as cost
from sidlsg.runtime.costs import Prices
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import DIGEST_SHOWN, counted, duration, plain
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import (
    FunnelStep,
    ModelVersion,
    Promotion,
    PromptSet,
    Published,
    Scorecard,
    Student,
    Verdict,
)


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """The records of one run, one a stage."""

    prompts: PromptSet
    student: Student
    version: ModelVersion
    scorecard: Scorecard
    verdict: Verdict
    promotion: Promotion

    def check(self) -> None:
        """Refuse records that do not belong together.

        Raises:
            InputError: a record speaks of another one than was given, or the promotion contradicts the verdict.
        """
        version = f"version {self.version.version} of {self.version.name!r}"
        links = (
            ("the student's prompt set", self.student.prompts_sha256, self.prompts.digest),
            (f"the student of {version}", self.version.student_sha256, self.student.digest),
            ("the scorecard's student", self.scorecard.student_sha256, self.student.digest),
            ("the verdict's scorecard", self.verdict.scorecard_sha256, self.scorecard.digest),
        )
        for what, expected, found in links:
            if expected != found:
                raise InputError(
                    f"{what} is {expected[:DIGEST_SHOWN]}…, but {found[:DIGEST_SHOWN]}… was given; "
                    "give the records of one run"
                )
        for what, name in (("verdict", self.verdict.name), ("promotion", self.promotion.name)):
            if name != self.version.name:
                raise InputError(f"the {what} is of model {name!r}, but {version} was given; give records of one run")
        if self.verdict.version != self.version.version:
            raise InputError(
                f"the verdict is of version {self.verdict.version}, but {version} was given; give records of one run"
            )
        is_champion = self.promotion.champion_version == self.version.version
        if (self.verdict.passed and not is_champion) or (self.promotion.changed and not self.verdict.passed):
            said = "passed" if self.verdict.passed else "did not pass"
            raise InputError(
                f"{version} {said}, but the promotion says champion {self.promotion.champion_version}, "
                f"changed: {self.promotion.changed}; give records of one run"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The verdict in words."""

    word: str
    """`promoted`, `rejected` or `already champion`."""
    headline: str
    detail: str
    """Which version was the champion before, or stays it."""

    @property
    def good(self) -> bool:
        """Whether the gate let the version through."""
        return self.word != "rejected"


def outcome(records: RunRecords) -> Outcome:
    """Say what came of a run whose records were checked."""
    verdict, promotion = records.verdict, records.promotion
    this = f"Version {records.version.version}"
    failed = sum(not rule.passed for rule in verdict.rules)
    rejected = f"{this} was rejected: {failed} of {counted(len(verdict.rules), 'rule', 'rules')} failed."
    if promotion.changed:
        before = verdict.champion_version
        return Outcome(
            word="promoted",
            headline=f"{this} was promoted: it is the champion now.",
            detail="There was none before." if before is None else f"The champion before was version {before}.",
        )
    if promotion.champion_version == records.version.version:
        before = promotion.previous_version
        was = (
            "No version was champion before it." if before is None else f"The champion before it was version {before}."
        )
        if verdict.passed:
            headline = f"{this} is the champion already, and passed the gate again."
            return Outcome(word="already champion", headline=headline, detail=f"Nothing was changed. {was}")
        return Outcome(word="rejected", headline=rejected, detail=f"It is the champion already and stays so. {was}")
    champion = promotion.champion_version
    stays = "There is no champion yet." if champion is None else f"Version {champion} stays the champion."
    return Outcome(word="rejected", headline=rejected, detail=stays)


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


TEMPLATE = "report.html"


def write_report(
    prompts: Path,
    student: Path,
    scorecard: Path,
    version: ModelVersion,
    verdict: Verdict,
    promotion: Promotion,
    seconds: dict[str, float],
    prices: Prices,
    output: Path,
    published: Mapping[str, Sequence[Published]],
) -> None:
    """Write the report of a run.

    Equal inputs give equal bytes.

    Args:
        prompts: folder of a PromptSet; its record is all that is read.
        student: folder of a Student; see `Student.account` for what is read of it.
        scorecard: folder of a Scorecard.
        version: the student in the registry.
        verdict: the gate's.
        promotion: what followed from it.
        seconds: what each stage took, in the order of the stages.
        prices: of an hour of each.
        output: the HTML file.
        published: results of others by recipe, shown where they are of the same protocols.

    Raises:
        InputError: a record is missing, its files differ from it, the records are not of one run, or a number is
            negative. Nothing is written then.
    """
    records = RunRecords(
        prompts=PromptSet.load(prompts),
        student=Student.load(student),
        version=version,
        scorecard=Scorecard.load(scorecard),
        verdict=verdict,
        promotion=promotion,
    )
    records.student.verify_files(student, records.student.account)
    records.scorecard.verify(scorecard)
    records.check()
    generated, reference = subject_grids(records.scorecard, scorecard)
    log, evaluations = records.student.training_log.path, records.student.evaluations
    along = [] if evaluations is None else training.read_training_log(student / evaluations.path)
    html = render(
        TEMPLATE,
        records=records,
        outcome=outcome(records),
        generated=generated,
        reference=reference,
        scores=scores.score_table(records.scorecard),
        board=board_of([Entry(label=version.name, card=records.scorecard, folder=scorecard)], published),
        training=None if "://" in log else training.training(training.read_training_log(student / log), along),
        strip=sample_strip(records.student.grids, student),
        chain=chain(records),
        digests=digests(records),
        made_with=made_with(records.student),
        recipe_values=recipe_values(records.student),
        funnel=funnel_rows(records.prompts.funnel),
        cost=cost.cost(seconds, prices),
    )
    atomic_write(output, html)
