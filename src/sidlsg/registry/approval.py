"""A person's approval of a version that lacks nothing else; the version is then judged again."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.gate import assess, gate
from sidlsg.registry.gate_rules import Facts, GateRules
from sidlsg.registry.score_log import PageWriter
from sidlsg.registry.verdicts import JUDGED_BY, fetch_evidence
from sidlsg.registry.versions import CHAMPION, alias_version, find_version, label, require_version
from sidlsg.runtime.errors import InputError, VerdictError
from sidlsg.storage.records import ModelVersion, Verdict


def approve(tracking_uri: str, name: str, which: str, who: str, page: PageWriter | None = None) -> Verdict:
    """Approve a version in a person's name, and judge it again by its recorded scorecard and rules.

    One person gives one approval, however often this is called, and the same call resumes a stopped one. Nothing
    changes where the version is the champion already.

    Args:
        tracking_uri: see `connect`.
        name: the model's name.
        which: the version's number, or an alias.
        who: the person.
        page: see `gate`.

    Raises:
        InputError: there is no such version, the gate never judged it, or its rules do not take this person.
        VerdictError: it lacks more than an approval.
        StorageError: the registry is away, busy or broken.
    """
    who = who.strip()
    if not who:
        raise InputError("nobody is named as the one who approves; give a person's name")
    version = find_version(tracking_uri, name, which)
    with tempfile.TemporaryDirectory(prefix="sidlsg-approve-") as scratch:
        found = fetch_evidence(version, tracking_uri, Path(scratch))
        verdict = assess(version, found.folder, tracking_uri, found.rules)
        if not verdict.passed:
            if not found.rules.awaits_approval(verdict.rules):
                unmet = "; ".join(f"{rule.rule}: {rule.found}" for rule in verdict.rules if not rule.passed)
                raise VerdictError(f"version {version.version} of {name} lacks more than an approval: {unmet}")
            _record(version, found.rules, who, tracking_uri)
        elif _is_champion(version, tracking_uri):
            return verdict
        run = found.tags.get(JUDGED_BY, "")
        return gate(version, found.folder, tracking_uri, found.rules, run=run, page=page)


@explained
def _is_champion(version: ModelVersion, tracking_uri: str) -> bool:
    return alias_version(connect(tracking_uri), version.name, CHAMPION) == version.version


@explained
def _record(version: ModelVersion, rules: GateRules, who: str, tracking_uri: str) -> None:
    client = connect(tracking_uri)
    tags = require_version(client, version.name, version.version).tags
    if any(tags.get(rule.tag, "").strip() == who and rule.takes(who) for rule in rules.approvals):
        return
    unmet = [rule for rule in rules.approvals if not rule.apply(Facts(tags=tags)).passed]
    # The rule that the fewest people can meet first: others may meet the rest.
    for rule in sorted(unmet, key=lambda rule: len(rule.people) or sys.maxsize):
        if rule.takes(who):
            client.set_model_version_tag(version.name, str(version.version), rule.tag, who)
            return
    people = sorted({name for rule in unmet for name in rule.people})
    raise InputError(f"{who} cannot approve {label(version)}; the gate's rules take: {', '.join(people)}")
