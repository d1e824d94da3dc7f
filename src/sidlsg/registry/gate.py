"""The gate stage: a scorecard against the rules and the champion, with the verdict on the version."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.rule_file import gate_rules_text
from sidlsg.registry.rules import Champion, Facts, GateRules
from sidlsg.registry.run_inputs import evaluation_inputs
from sidlsg.registry.run_log import SECONDS_TAG
from sidlsg.registry.score_log import (
    AWAITS_TAG,
    FOLDER,
    RULE,
    SCORE,
    SCORECARD_TAG,
    PageWriter,
    log_scorecard,
    own_scorecard,
    score_tags,
    set_tags,
)
from sidlsg.registry.versions import (
    CHAMPION,
    COST_TAG,
    STUDENT_TAG,
    alias_version,
    pages,
    require_run,
    require_same_student,
    require_version,
)
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import pipeline_run
from sidlsg.storage.records import ModelVersion, RuleResult, Scorecard, Verdict

JUDGED_BY = "verdict_pipeline_run"
"""The tag with the pipeline run whose gate judged the version last."""


@explained
def gate(
    version: ModelVersion,
    scorecard_folder: Path,
    tracking_uri: str,
    rules: GateRules,
    inputs: Mapping[str, str] | None = None,
    run: str = "",
    page: PageWriter | None = None,
) -> Verdict:
    """Judge a version by its scorecard, and record scorecard and verdict on it.

    A rejection is a verdict that did not pass, not an error.

    Args:
        version: the version.
        scorecard_folder: its scorecard.
        tracking_uri: where MLflow is, see `connect`.
        rules: what it must meet.
        inputs: of the evaluation, see `evaluation_inputs`.
        run: id of the pipeline run that the verdict belongs to; by default the one that this process is a step of.
        page: writes the page of scores that is logged with the verdict; None for no page.

    Raises:
        InputError: the scorecard is damaged or another student's, a rule does not fit it, there is no such version,
            or its run or the champion is gone.
    """
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    verdict = _judge(client, version, registered, card, rules)
    run = run or pipeline_run()
    log_scorecard(client, registered.run_id, card, scorecard_folder, f"{version.name} {version.version}", page)
    client.log_inputs(registered.run_id, evaluation_inputs(inputs or {}))
    client.log_text(registered.run_id, rules.to_json(), f"{FOLDER}/{GateRules.FILE}")
    client.log_text(registered.run_id, gate_rules_text(rules), f"{FOLDER}/gate_rules.toml")
    client.log_text(registered.run_id, verdict.to_json(), f"{FOLDER}/{Verdict.FILE}")
    tags = {
        SCORECARD_TAG: card.digest,
        "verdict_rules_sha256": rules.digest,
        "verdict_sha256": verdict.digest,
        "verdict": "passed" if verdict.passed else "rejected",
        **({JUDGED_BY: run} if run else {}),
        **({AWAITS_TAG: "yes"} if rules.awaits_approval(verdict.rules) else {}),
        **{f"{RULE}{number:02}": _told(result) for number, result in enumerate(verdict.rules, start=1)},
        **score_tags(card),
    }
    set_tags(client, registered, tags, (RULE, JUDGED_BY, AWAITS_TAG))
    return verdict


@explained
def assess(version: ModelVersion, scorecard_folder: Path, tracking_uri: str, rules: GateRules) -> Verdict:
    """Judge a version as `gate` does, and record nothing.

    Raises:
        InputError: as for `gate`.
    """
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    return _judge(client, version, registered, card, rules)


def _judge(client: MlflowClient, version: ModelVersion, registered: Any, card: Scorecard, rules: GateRules) -> Verdict:
    champion = _champion(client, version)
    results = rules.apply(card, champion, _facts(registered))
    return Verdict(
        name=version.name,
        version=version.version,
        champion_version=None if champion is None or champion.is_challenger else champion.version,
        scorecard_sha256=card.digest,
        rules_sha256=rules.digest,
        passed=all(result.passed for result in results),
        rules=results,
    )


def _facts(registered: Any) -> Facts:
    seconds = float(registered.tags.get(SECONDS_TAG, 0))
    return Facts(
        name=registered.name,
        version=int(registered.version),
        # A converted student's record has 0.
        training_seconds=seconds or None,
        tags=registered.tags,
    )


def _told(result: RuleResult) -> str:
    return f"{'passed' if result.passed else 'FAILED'}: {result.rule}: {result.found}"


def _champion(client: MlflowClient, version: ModelVersion) -> Champion | None:
    number = alias_version(client, version.name, CHAMPION)
    if number is None:
        return None
    if number == version.version:
        return Champion(version=number, scorecard=None, is_challenger=True)
    registered = require_version(client, version.name, number)
    require_run(client, registered)
    try:
        card = _logged_scorecard(client, registered)
    except InputError as error:
        return Champion(version=number, scorecard=None, note=f"{error}; evaluate and gate version {number} first")
    return Champion(version=number, scorecard=card)


def _logged_scorecard(client: MlflowClient, registered: Any) -> Scorecard:
    """The scorecard that the gate logged for a version earlier."""
    path = f"{FOLDER}/{Scorecard.FILE}"
    if not registered.run_id or path not in [file.path for file in client.list_artifacts(registered.run_id, FOLDER)]:
        raise InputError("has no scorecard")
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(client.download_artifacts(registered.run_id, path, scratch)).read_text()
    card = Scorecard.from_json(text, "has a scorecard that cannot be read: it")
    if card.student_sha256 != registered.tags.get(STUDENT_TAG):
        raise InputError("has the scorecard of another student")
    return card


@dataclass(frozen=True, kw_only=True)
class JudgedVersion:
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
def judged_by(pipeline_run: str, tracking_uri: str) -> tuple[JudgedVersion, ...]:
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
        JudgedVersion(
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
