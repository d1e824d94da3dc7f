"""The gate stage: judges a scorecard by the rules and the champion, and records the verdict on the version."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import artifacts
from sidlsg.registry.gate_rule_file import gate_rules_text
from sidlsg.registry.gate_rules import Champion, Facts, GateRules
from sidlsg.registry.run_log import SECONDS_TAG
from sidlsg.registry.score_log import (
    AWAITS_TAG,
    FOLDER,
    RULE,
    PageWriter,
    log_scorecard,
    own_scorecard,
    score_tags,
    set_tags,
)
from sidlsg.registry.verdicts import FAILED, JUDGED_BY, PASSED, RULES_TAG
from sidlsg.registry.versions import (
    CHAMPION,
    STUDENT_TAG,
    VERDICT_TAG,
    alias_version,
    require_run,
    require_same_student,
    require_version,
)
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import pipeline_run
from sidlsg.storage.records import ModelVersion, Scorecard, Verdict


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
    """Judge a version by its scorecard, and record scorecard and verdict on it; a rejection is not an error.

    Args:
        version: the version.
        scorecard_folder: its scorecard.
        tracking_uri: see `connect`.
        rules: all must pass.
        inputs: of the evaluation, see `evaluation_inputs`.
        run: id of the pipeline run that the verdict belongs to; by default the one that this process is a step of.
        page: writes the page of scores that is logged with the verdict; None for no page.

    Raises:
        InputError: the scorecard is damaged or another student's, a rule does not fit it, there is no such version,
            or its run or the champion is gone.
    """
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    registered = require_same_student(client, version)
    verdict = _judge(client, registered, card, rules)
    run = run or pipeline_run()
    log_scorecard(client, registered, card, scorecard_folder, inputs, page)
    for name, text in (
        (GateRules.FILE, rules.to_json()),
        ("gate_rules.toml", gate_rules_text(rules)),
        (Verdict.FILE, verdict.to_json()),
    ):
        client.log_text(registered.run_id, text, f"{FOLDER}/{name}")
    results = (f"{PASSED if each.passed else FAILED}{each.rule}: {each.found}" for each in verdict.rules)
    tags = {
        **score_tags(card),
        RULES_TAG: rules.digest,
        VERDICT_TAG: verdict.digest,
        "verdict": "passed" if verdict.passed else "rejected",
        **({JUDGED_BY: run} if run else {}),
        **({AWAITS_TAG: "yes"} if rules.awaits_approval(verdict.rules) else {}),
        **{f"{RULE}{number:02}": result for number, result in enumerate(results, start=1)},
    }
    set_tags(client, registered, tags, (RULE, JUDGED_BY, AWAITS_TAG))
    return verdict


@explained
def assess(version: ModelVersion, scorecard_folder: Path, tracking_uri: str, rules: GateRules) -> Verdict:
    """Judge a version as `gate` does, without recording anything; raises as `gate`."""
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    return _judge(client, require_same_student(client, version), card, rules)


def _judge(client: MlflowClient, registered: Any, card: Scorecard, rules: GateRules) -> Verdict:
    name, number = registered.name, int(registered.version)
    champion = _champion(client, name, number)
    facts = Facts(
        name=name,
        version=number,
        # A converted student's record has 0.
        training_seconds=float(registered.tags.get(SECONDS_TAG, 0)) or None,
        tags=registered.tags,
    )
    results = rules.apply(card, champion, facts)
    return Verdict(
        name=name,
        version=number,
        champion_version=None if champion is None or champion.is_challenger else champion.version,
        scorecard_sha256=card.digest,
        rules_sha256=rules.digest,
        passed=all(result.passed for result in results),
        rules=results,
    )


def _champion(client: MlflowClient, name: str, challenger: int) -> Champion | None:
    number = alias_version(client, name, CHAMPION)
    if number is None:
        return None
    if number == challenger:
        return Champion(version=number, scorecard=None, is_challenger=True)
    registered = require_version(client, name, number)
    require_run(client, registered)
    try:
        return Champion(version=number, scorecard=_logged_scorecard(client, registered))
    except InputError as error:
        return Champion(version=number, scorecard=None, note=f"{error}; evaluate and gate version {number} first")


def _logged_scorecard(client: MlflowClient, registered: Any) -> Scorecard:
    """The scorecard that the gate logged for a version earlier."""
    path = f"{FOLDER}/{Scorecard.FILE}"
    if not registered.run_id or path not in artifacts(client, registered.run_id, FOLDER):
        raise InputError("has no scorecard")
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(client.download_artifacts(registered.run_id, path, scratch)).read_text()
    card = Scorecard.from_json(text, "has a scorecard that cannot be read: it")
    if card.student_sha256 != registered.tags.get(STUDENT_TAG):
        raise InputError("has the scorecard of another student")
    return card
