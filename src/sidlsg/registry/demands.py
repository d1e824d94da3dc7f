"""The gate's rules that ask for other things than good scores: protocols, a limit of cost, somebody's consent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import RuleResult, Scorecard

APPROVAL_TAG = "approved_by"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the registry knows of a challenger besides its scores."""

    name: str = ""
    version: int = 0
    training_seconds: float | None = None
    """None where it is not known, as of a converted student."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The version's."""


@dataclass(frozen=True, kw_only=True)
class Required:
    """A generator must be scored under a protocol, so that a verdict without that score is none."""

    subject: str
    protocol: str

    def apply(self, card: Scorecard) -> RuleResult:
        """Look on the scorecard."""
        protocols = [score.protocol for score in card.subject(self.subject).scores]
        return RuleResult(
            rule=f"{self.subject} is scored under {self.protocol}",
            found="it is" if self.protocol in protocols else f"it is scored under: {', '.join(protocols)}",
            passed=self.protocol in protocols,
        )


@dataclass(frozen=True, kw_only=True)
class MaximumCost:
    """The training may have cost so much at most, in the currency of the price."""

    maximum: float
    hourly_price: float

    def __post_init__(self) -> None:
        for name in ("maximum", "hourly_price"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} {value} given for a cost; it must be a finite number above 0")

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
    """Somebody must have agreed, by a tag on the version; a version's content never changes."""

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
        """The rule in words, as a verdict lists it."""
        return f"approved by {' or '.join(self.people) or 'somebody'}"

    def takes(self, who: str) -> bool:
        """Whether this person's name counts."""
        return who in self.people if self.people else bool(who)

    def apply(self, facts: Facts) -> RuleResult:
        """Look at the version's tags."""
        given = facts.tags.get(self.tag, "").strip()
        passed = self.takes(given)
        if passed:
            found = f"by {given}"
        else:
            who = self.people[0] if self.people else "NAME"
            found = (
                f"{self.tag} is {given or 'not set'}; to approve, run `sidlsg approve {facts.name} {facts.version} "
                f"--by {who}`, or set the version's tag {self.tag} to {who} in MLflow and run the gate again"
            )
        return RuleResult(rule=self.rule, found=found, passed=passed)
