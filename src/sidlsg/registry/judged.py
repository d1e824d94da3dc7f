"""What the gate of a pipeline run said: found in the registry by the run's id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidlsg.registry.connection import connect
from sidlsg.registry.description import RULE, SCORE
from sidlsg.registry.explain import explained
from sidlsg.registry.gate import JUDGED_BY
from sidlsg.registry.run_cost import COST_TAG
from sidlsg.registry.score_log import AWAITS_TAG
from sidlsg.registry.versions import CHAMPION, alias_version, pages
from sidlsg.runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A version with its verdict."""

    name: str
    version: int
    passed: bool
    awaits_approval: bool
    """Whether an approval is all that it lacks."""
    champion: bool
    """Whether it is the champion now."""
    rules: tuple[str, ...]
    """Each with what was found."""
    scores: Mapping[str, str]
    """By name, each with its protocol."""
    cost: str
    """Of its run; empty where no price was given."""

    @property
    def failed_rules(self) -> tuple[str, ...]:
        """The rules that were not met, each with what was found."""
        return tuple(rule.partition(": ")[2] for rule in self.rules if rule.startswith("FAILED"))

    @property
    def failed(self) -> str:
        """These rules on one line."""
        return "; ".join(self.failed_rules)

    @property
    def outcome(self) -> str:
        """`passed`, `awaiting` an approval, or `rejected`."""
        return "passed" if self.passed else "awaiting" if self.awaits_approval else "rejected"


@explained
def judged_by(pipeline_run: str, tracking_uri: str) -> tuple[Judged, ...]:
    """The versions that a pipeline run's gate judged last, by name and number.

    Args:
        pipeline_run: its id.
        tracking_uri: of the registry.

    Raises:
        InputError: MLflow cannot be reached, or what is given is no id.
    """
    if not pipeline_run or not pipeline_run.replace("-", "").isalnum():
        raise InputError(f"{pipeline_run!r} is not the id of a pipeline run; give letters, digits and '-'")
    client = connect(tracking_uri)
    found = pages(client.search_model_versions, filter_string=f"tags.{JUDGED_BY} = '{pipeline_run}'")
    judged = [
        Judged(
            name=each.name,
            version=int(each.version),
            passed=each.tags.get("verdict") == "passed",
            awaits_approval=AWAITS_TAG in each.tags,
            champion=alias_version(client, each.name, CHAMPION) == int(each.version),
            rules=tuple(value for key, value in sorted(each.tags.items()) if key.startswith(RULE)),
            scores={
                key.removeprefix(SCORE): value for key, value in sorted(each.tags.items()) if key.startswith(SCORE)
            },
            cost=each.tags.get(COST_TAG, ""),
        )
        for each in found
    ]
    return tuple(sorted(judged, key=lambda each: (each.name, each.version)))
