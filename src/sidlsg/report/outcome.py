"""What came of a run: the verdict as a sentence, and whether the records are of one run at all."""

from __future__ import annotations

from dataclasses import dataclass

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import DIGEST_SHOWN, counted
from sidlsg.storage.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict


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
