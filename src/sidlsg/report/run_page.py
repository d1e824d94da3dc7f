"""The report of a run: one HTML file that loads nothing, from the records and files of the run's stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.report.contenders import Entry
from sidlsg.report.page import render, sample_grids, subject_grids
from sidlsg.report.scoreboard import scoreboard
from sidlsg.report.training import read_training_log, training_charts
from sidlsg.runtime.costs import Prices, cost
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import DIGEST_SHOWN, counted, duration, plain
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import (
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
        """Check that the records are of one run.

        Raises:
            InputError: a record refers to another record than the given one, or the promotion contradicts the verdict.
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
            result = "passed" if self.verdict.passed else "did not pass"
            raise InputError(
                f"{version} {result}, but the promotion says champion {self.promotion.champion_version}, "
                f"changed: {self.promotion.changed}; give records of one run"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a run in words."""

    word: str
    """`promoted`, `rejected` or `already champion`."""
    headline: str
    detail: str
    """Which version was the champion before, or still is."""


def outcome(records: RunRecords) -> Outcome:
    """The result of a run whose records were checked."""
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


def lineage(records: RunRecords) -> list[tuple[str, str, str]]:
    """Name, summary and digest of each record, in the order of the stages."""
    prompts, student, version = records.prompts, records.student, records.version
    scorecard, verdict, promotion = records.scorecard, records.verdict, records.promotion
    passed = sum(rule.passed for rule in verdict.rules)
    prompt_count = f"{counted(prompts.count, 'prompt', 'prompts')} in {counted(len(prompts.shards), 'shard', 'shards')}"
    scored = f"{counted(len(scorecard.subjects), 'subject', 'subjects')}, scored in {duration(scorecard.seconds)}"
    result = f"{'passed' if verdict.passed else 'rejected'}, {passed} of {len(verdict.rules)} rules met"
    champion = "no champion" if promotion.champion_version is None else f"champion {promotion.champion_version}"
    previous = "none" if promotion.previous_version is None else promotion.previous_version
    seen = counted(student.images_seen, "image", "images")
    return [
        ("Prompts", prompt_count, prompts.digest),
        ("Student", f"recipe {student.recipe}, {seen} seen", student.digest),
        ("Version", f"{version.name} {version.version}, run {version.run_id}", version.digest),
        ("Scorecard", scored, scorecard.digest),
        ("Verdict", result, verdict.digest),
        ("Promotion", f"{champion}, previous: {previous}", promotion.digest),
    ]


def digests(records: RunRecords) -> dict[str, str]:
    """Every digest in full."""
    return {f"{name} record": digest for name, _, digest in lineage(records)} | {
        "Prompt source": records.prompts.source_sha256,
        "Curation rules": records.prompts.rules_sha256,
        "Held-out prompts": records.prompts.held_out_sha256,
        "Teacher": records.student.teacher_sha256,
        "Package, when the student was trained": records.student.package_sha256,
        "Package, when it was evaluated": records.scorecard.package_sha256,
        "Gate rules": records.verdict.rules_sha256,
    }


def made_with(student: Student) -> dict[str, str]:
    """The most important values of a training."""
    recipe = student.recipe_values
    values: dict[str, Any] = {
        "Recipe": student.recipe,
        "Guidance strategy": student.strategy,
        **{f"κ{index}": kappa for index, kappa in enumerate(student.kappas, 1)},
        "α": recipe.get("alpha"),
        "t_init": student.t_init,
        "Steps": recipe.get("steps", 1),
        "Noise of the later steps": recipe.get("step_noise", "fresh") if "steps" in recipe else None,
        "Batch": recipe.get("batch"),
        "Seed": str(student.seed),
        "Iterations": student.iterations,
        "Images seen": student.images_seen,
        "Training time": duration(student.seconds),
        "Hardware": student.hardware,
    }
    return {name: plain(value) for name, value in values.items() if value is not None}


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
    """Write the report of a run; equal inputs give equal bytes.

    Args:
        prompts: folder of a PromptSet; only its record is read.
        student: folder of a Student; `Student.account` lists the files that are read.
        scorecard: folder of a Scorecard.
        version: the student in the registry.
        verdict: the gate's.
        promotion: the result of the verdict.
        seconds: duration of each stage, in the order of the stages.
        prices: per hour of each stage.
        output: the HTML file.
        published: published results by recipe, shown where they share a protocol.

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
    scores = [] if evaluations is None else read_training_log(student / evaluations.path)
    html = render(
        "report.html",
        records=records,
        outcome=outcome(records),
        generated=generated,
        reference=reference,
        board=scoreboard([Entry(label=version.name, card=records.scorecard, folder=scorecard)], published),
        training=None if "://" in log else training_charts(read_training_log(student / log), scores),
        samples=sample_grids(records.student.grids, student),
        lineage=lineage(records),
        digests=digests(records),
        made_with=made_with(records.student),
        recipe_values={name: plain(value) for name, value in sorted(records.student.recipe_values.items())},
        rows_read=max((step.rows_in for step in records.prompts.funnel), default=0),
        cost=cost(seconds, prices),
    )
    atomic_write(output, html)
