"""The gate's rules: limits, ratios between generators of one scorecard, and comparisons with the champion."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field, FiniteFloat

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.records import Record, RuleResult, Score, Scorecard, SubjectScores

APPROVAL_TAG = "approved_by"
REAL_IMAGES_TAG = "real_images"
"""The version's tag that says which real images a student was trained with; absent for a data-free one."""

STUDENT = "student 1 step"
"""A rule's subject where none is given: the student in its own number of steps, one or several."""


def is_student(subject: SubjectScores) -> bool:
    """Whether a scorecard's subject is the student."""
    return subject.subject.startswith("student ")


def subject_of(card: Scorecard, name: str) -> SubjectScores:
    """A scorecard's subject by a rule's name for it; raises InputError where there is none."""
    student = next(filter(is_student, card.subjects), None)
    return student if name == STUDENT and student is not None else card.subject(name)


class RuleError(InputError):
    """A rule does not fit the scorecard."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The registry's knowledge of a challenger besides its scores."""

    name: str = ""
    version: int = 0
    training_seconds: float | None = None
    """None where it is not known, such as for a converted student."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The version's."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version that the challenger is compared with."""

    version: int
    scorecard: Scorecard | None
    """None where there is nothing to compare with."""
    note: str = ""
    """Why there is no scorecard, and what to do."""
    is_challenger: bool = False
    """Whether the challenger is the champion already."""


Positive = Annotated[FiniteFloat, Field(gt=0)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]
"""Checked, like all fields, where rules are read from a file or a record."""

# Every rule's `apply` raises InputError where the scorecard lacks a subject or a score that the rule names.


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A score must reach a limit: at least it where higher is better, at most it where lower is."""

    subject: str = STUDENT
    score: str
    limit: FiniteFloat

    def apply(self, card: Scorecard) -> RuleResult:
        """Judge the subject's score."""
        subject = subject_of(card, self.subject)
        score = subject.score(self.score)
        return RuleResult(
            rule=f"{self.score} of {subject.subject} is {_bound(score)} {self.limit:g}",
            found=_score_text(score),
            passed=_reaches(score, self.limit),
        )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A score must reach `factor` times the same score of another subject on the same scorecard."""

    subject: str = STUDENT
    score: str
    against_subject: str
    factor: Positive

    def apply(self, card: Scorecard) -> RuleResult:
        """Judge the subject's score; InputError where the two scores do not compare."""
        subject = subject_of(card, self.subject)
        score = subject.score(self.score)
        other = subject_of(card, self.against_subject).score(self.score)
        score.require_comparable(other)
        if other.value < 0:
            raise InputError(
                f"{self.score} of {self.against_subject} is {other.value:.6g}, and a multiple of a number below 0 says "
                "nothing; take a rule with a limit or a tolerance"
            )
        limit = self.factor * other.value
        times = f"{self.factor:g} × that of {self.against_subject}"
        return RuleResult(
            rule=f"{self.score} of {subject.subject} is {_bound(score)} {times}",
            found=f"{_score_text(score)}; {self.factor:g} × {other.value:.6g} is {limit:.6g}",
            passed=_reaches(score, limit),
        )


@dataclass(frozen=True, kw_only=True)
class NoRegression:
    """A score may be at most `tolerance` worse than the champion's, in the score's own units."""

    subject: str = STUDENT
    score: str
    tolerance: NotNegative

    def apply(self, card: Scorecard, champion: Champion | None) -> RuleResult:
        """Judge the subject's score against the champion's."""
        words = f"at most {self.tolerance:g} worse than the champion's"
        return _compare(self, words, card, champion, lambda gain, _: gain >= -self.tolerance)


@dataclass(frozen=True, kw_only=True)
class NotWorse:
    """A score may be worse than the champion's by noise alone; without intervals the rule fails."""

    subject: str = STUDENT
    score: str

    def apply(self, card: Scorecard, champion: Champion | None) -> RuleResult:
        """Judge the subject's score against the champion's."""
        words = "not worse than the champion's by more than noise"
        return _compare(self, words, card, champion, lambda gain, noise: gain >= -noise)


@dataclass(frozen=True, kw_only=True)
class Better:
    """A score must be better than the champion's by more than noise; without intervals the rule fails."""

    subject: str = STUDENT
    score: str

    def apply(self, card: Scorecard, champion: Champion | None) -> RuleResult:
        """Judge the subject's score against the champion's."""
        words = "better than the champion's by more than noise"
        return _compare(self, words, card, champion, lambda gain, noise: gain > noise)


def noise_between(one: Score, other: Score) -> float:
    """The difference of two scores that their images alone explain in 95 of 100 cases; NaN without both intervals.

    It is the root of the sum of the squared half intervals. As the images share prompts and seeds, their errors are
    partly correlated, and this is an overestimate.
    """
    if one.interval is None or other.interval is None:
        return math.nan
    return math.hypot(*((high - low) / 2 for low, high in (one.interval, other.interval)))


def _compare(
    rule: NoRegression | NotWorse | Better,
    words: str,
    card: Scorecard,
    champion: Champion | None,
    passes: Callable[[float, float], bool],
) -> RuleResult:
    """Compare with the champion's score; `passes` takes the gain over it, negative for a loss, and the noise."""

    def result(found: str, passed: bool) -> RuleResult:
        return RuleResult(rule=f"{rule.score} of {subject.subject} is {words}", found=found, passed=passed)

    subject = subject_of(card, rule.subject)
    score = subject.score(rule.score)
    if champion is None:
        return result("no champion yet: nothing to compare with", True)
    who = f"champion version {champion.version}"
    if champion.is_challenger:
        return result(f"{who} is this version: nothing to compare with", True)
    if champion.scorecard is None:
        return result(f"{who} {champion.note}", False)
    try:
        theirs = subject_of(champion.scorecard, rule.subject)
        other = theirs.score(rule.score)
        gain = score.better_by(other)
    except InputError as error:
        return result(f"{who} does not compare: {error}; evaluate and gate {who} again under this protocol", False)
    if theirs.subject != subject.subject:
        who += f" ({theirs.subject})"
    noise = noise_between(score, other)
    change = f"better by {gain:.6g}" if gain >= 0 else f"worse by {-gain:.6g}"
    noise_text = "noise not known" if math.isnan(noise) else f"noise {noise:.3g}"
    # A comparison with an unknown noise, a NaN, is never true.
    return result(f"{_score_text(score)}; {who} has {other.value:.6g}: {change} ({noise_text})", passes(gain, noise))


@dataclass(frozen=True, kw_only=True)
class Required:
    """A generator must be scored under a protocol."""

    subject: str = STUDENT
    protocol: str

    def apply(self, card: Scorecard) -> RuleResult:
        """Look the protocol up on the scorecard."""
        subject = subject_of(card, self.subject)
        protocols = [score.protocol for score in subject.scores]
        passed = self.protocol in protocols
        return RuleResult(
            rule=f"{subject.subject} is scored under {self.protocol}",
            found="it is" if passed else f"it is scored under: {'; '.join(protocols)}",
            passed=passed,
        )


@dataclass(frozen=True, kw_only=True)
class DataFree:
    """The student must have been trained without real images."""

    def apply(self, facts: Facts) -> RuleResult:
        """Judge by the tag that registration sets for a student of real images."""
        images = facts.tags.get(REAL_IMAGES_TAG, "")
        found = f"with real images: {images}" if images else "without"
        return RuleResult(rule="trained without real images", found=found, passed=not images)


@dataclass(frozen=True, kw_only=True)
class MaximumCost:
    """The training may have cost at most `maximum`, in the currency of the price."""

    maximum: Positive
    hourly_price: Positive

    def apply(self, facts: Facts) -> RuleResult:
        """Judge by the seconds of training, restarts added up."""
        rule = f"training costs at most {self.maximum:g} at {self.hourly_price:g} an hour"
        if facts.training_seconds is None:
            return RuleResult(rule=rule, found="how long the training took is not known", passed=False)
        cost = facts.training_seconds / 3600 * self.hourly_price
        found = f"{cost:.4g} for {facts.training_seconds:,.0f} s"
        return RuleResult(rule=rule, found=found, passed=cost <= self.maximum)


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A person must have approved, by a tag on the version; a version's content never changes."""

    tag: str = APPROVAL_TAG
    people: tuple[str, ...] = ()
    """Whose names count; anybody's where none is given."""

    def __post_init__(self) -> None:
        if not self.tag or any(not name.strip() for name in self.people):
            raise InputError("an approval needs a tag's name, and people with names")
        if self.tag != APPROVAL_TAG and not self.tag.startswith(f"{APPROVAL_TAG}."):
            raise InputError(
                f"tag {self.tag!r} given for an approval; it must be {APPROVAL_TAG} or begin with {APPROVAL_TAG}., so "
                "that no tag that a program writes counts as somebody's consent"
            )

    @property
    def rule(self) -> str:
        """The rule as a verdict lists it."""
        return f"approved by {' or '.join(self.people) or 'somebody'}"

    def takes(self, who: str) -> bool:
        """Whether this person's name counts."""
        return who in self.people if self.people else bool(who)

    def apply(self, facts: Facts) -> RuleResult:
        """Judge by the version's tags."""
        given = facts.tags.get(self.tag, "").strip()
        who = self.people[0] if self.people else "NAME"
        if passed := self.takes(given):
            found = f"by {given}"
        else:
            found = (
                f"{self.tag} is {given or 'not set'}; to approve, run `sidlsg approve {facts.name} {facts.version} "
                f"--by {who}`, or set the version's tag {self.tag} to {who} in MLflow and run the gate again"
            )
        return RuleResult(rule=self.rule, found=found, passed=passed)


@dataclass(frozen=True, kw_only=True)
class GateRules(Record):
    """All rules of a gate; every one must pass."""

    FILE: ClassVar[str] = "gate_rules.json"
    floors: tuple[Floor, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    no_regression: tuple[NoRegression, ...] = ()
    not_worse: tuple[NotWorse, ...] = ()
    better: tuple[Better, ...] = ()
    required: tuple[Required, ...] = ()
    data_free: tuple[DataFree, ...] = ()
    costs: tuple[MaximumCost, ...] = ()
    approvals: tuple[Approval, ...] = ()

    def __post_init__(self) -> None:
        if not (self.floors or self.ratios or self.no_regression or self.not_worse or self.better or self.required):
            if self.data_free or self.costs or self.approvals:
                raise InputError("no rule asks for a score, so any image would pass; give one that does")
            raise InputError("a gate without rules would let everything through; give at least one rule")

    def to_json(self) -> str:
        """Canonical JSON; without `data_free` where there is no such rule, so that earlier rules keep their digests."""
        if self.data_free:
            return super().to_json()
        values = parse_json(super().to_json())
        del values["data_free"]
        return json.dumps(values, sort_keys=True, indent=2) + "\n"

    def apply(self, card: Scorecard, champion: Champion | None, facts: Facts | None = None) -> tuple[RuleResult, ...]:
        """Apply every rule, in order, to the challenger's scores and facts; the champion is None where there is none.

        Raises:
            RuleError: a rule names a subject or score that the scorecard lacks.
        """
        facts = facts or Facts()
        try:
            return (
                *(rule.apply(card) for rule in self.floors),
                *(rule.apply(card) for rule in self.ratios),
                *(rule.apply(card, champion) for rule in self.no_regression),
                *(rule.apply(card, champion) for rule in self.not_worse),
                *(rule.apply(card, champion) for rule in self.better),
                *(rule.apply(card) for rule in self.required),
                *(rule.apply(facts) for rule in self.costs),
                *(rule.apply(facts) for rule in self.approvals),
            )
        except InputError as error:
            raise RuleError(f"a rule does not fit the scorecard: {error}") from error

    def awaits_approval(self, results: Sequence[RuleResult]) -> bool:
        """Whether these results of `apply` lack approvals alone."""
        approvals = {rule.rule for rule in self.approvals}
        unmet = [result.rule for result in results if not result.passed]
        return bool(unmet) and approvals.issuperset(unmet)


def _bound(score: Score) -> str:
    return "at least" if score.higher_is_better else "at most"


def _reaches(score: Score, limit: float) -> bool:
    # A NaN reaches nothing, whether higher or lower is better.
    return score.value >= limit if score.higher_is_better else score.value <= limit


def _score_text(score: Score) -> str:
    return f"{score.value:.6g} ({score.protocol}, {score.n} images)"
