"""Recorded verdicts: what the gate left on a version and its run, read back and checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import artifacts
from sidlsg.registry.gate_rules import GateRules
from sidlsg.registry.score_log import AWAITS_TAG, FOLDER, RULE, SCORE, SCORECARD_TAG, prefixed
from sidlsg.registry.versions import (
    CHAMPION,
    COST_TAG,
    VERDICT_TAG,
    alias_version,
    find_version,
    label,
    pages,
    require_same_student,
)
from sidlsg.runtime.errors import ContentError, InputError, VerdictError
from sidlsg.storage.files import require_digest, sha256_file
from sidlsg.storage.records import ModelVersion, Scorecard, Verdict

JUDGED_BY = "verdict_pipeline_run"
"""On a version: the pipeline run whose gate judged it last."""
RULES_TAG = "verdict_rules_sha256"
_DIGEST_TAGS = {Scorecard.FILE: SCORECARD_TAG, Verdict.FILE: VERDICT_TAG, GateRules.FILE: RULES_TAG}
"""By file, the tag with its digest: tags are in the database, and files in the artifact store."""
PASSED, FAILED = "passed: ", "FAILED: "
"""Prefixes of the gate's result of a rule."""


@dataclass(frozen=True, kw_only=True)
class JudgedVersion:
    """A version with its verdict."""

    name: str
    version: int
    passed: bool
    awaits_approval: bool
    """Whether it only lacks an approval."""
    champion: bool
    """Whether it is the champion now."""
    rules: tuple[str, ...]
    """Each with its result."""
    scores: Mapping[str, str]
    """By name, each with its protocol."""
    cost: str
    """Of its run; empty where no price was given."""

    @property
    def failed_rules(self) -> tuple[str, ...]:
        """The rules that were not met, each with its result."""
        return _failed_rules(self.rules)

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
    """The versions that the gate of the pipeline run with this id judged last, by name and number."""
    if not pipeline_run or not pipeline_run.replace("-", "").isalnum():
        raise InputError(f"{pipeline_run!r} is not the id of a pipeline run; give letters, digits and '-'")
    client = connect(tracking_uri)
    judged = [
        JudgedVersion(
            name=each.name,
            version=int(each.version),
            passed=each.tags.get("verdict") == "passed",
            awaits_approval=AWAITS_TAG in each.tags,
            champion=alias_version(client, each.name, CHAMPION) == int(each.version),
            rules=tuple(prefixed(each.tags, RULE).values()),
            scores=prefixed(each.tags, SCORE),
            cost=each.tags.get(COST_TAG, ""),
        )
        for each in pages(client.search_model_versions, filter_string=f"tags.{JUDGED_BY} = '{pipeline_run}'")
    ]
    return tuple(sorted(judged, key=lambda each: (each.name, each.version)))


def recorded_verdict(tracking_uri: str, name: str, which: str) -> Verdict:
    """The gate's last verdict on a version, by number or alias; raises as `fetch_evidence` does."""
    with tempfile.TemporaryDirectory() as scratch:
        evidence = fetch_evidence(find_version(tracking_uri, name, which), tracking_uri, Path(scratch), passed=True)
        return Verdict.load(evidence.folder)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The gate's record of a version, whatever the verdict."""

    folder: Path
    """The scorecard with its images, the rules and the verdict."""
    rules: GateRules
    tags: Mapping[str, str]
    """The version's."""


@explained
def fetch_evidence(version: ModelVersion, tracking_uri: str, folder: Path, passed: bool = False) -> Evidence:
    """Download to an empty folder what the gate recorded of a version, and check it.

    Args:
        version: the version.
        tracking_uri: see `connect`.
        folder: for the files.
        passed: require a verdict that passed, and check it too.

    Raises:
        ContentError: a file is missing, or its digest is not the version's tag.
        InputError: there is no such version, or the gate never judged it.
        VerdictError: it was rejected.
    """
    client, which = connect(tracking_uri), label(version)
    tags: Mapping[str, str] = require_same_student(client, version).tags
    if any(tag not in tags for tag in ("verdict", *_DIGEST_TAGS.values())):
        raise InputError(f"{which} has no verdict; run `sidlsg gate` there first")
    if passed and tags["verdict"] != "passed":
        failed = "; ".join(_failed_rules(prefixed(tags, RULE).values())) or "it does not say why"
        raise VerdictError(f"{which} did not pass the gate ({failed}), so it is neither promoted nor copied")
    files = {name: tag for name, tag in _DIGEST_TAGS.items() if passed or name != Verdict.FILE}
    present = artifacts(client, version.run_id, FOLDER)
    for name in files:
        if f"{FOLDER}/{name}" not in present:
            raise ContentError(f"{FOLDER}/{name} of {which} is missing; run the gate there again")
    downloaded = Path(client.download_artifacts(version.run_id, FOLDER, str(folder)))
    for name, tag in files.items():
        require_digest(f"{FOLDER}/{name} of {which}", sha256_file(downloaded / name), tags[tag])
    Scorecard.load(downloaded).verify(downloaded)
    if passed:
        verdict = Verdict.load(downloaded)
        recorded = (verdict.name, verdict.version, verdict.scorecard_sha256, verdict.rules_sha256, verdict.passed)
        if recorded != (version.name, version.version, tags[SCORECARD_TAG], tags[RULES_TAG], True):
            # A gate that was stopped between two tags leaves such.
            raise ContentError(f"the tags of {which} are not those of its verdict; run the gate there again")
    return Evidence(folder=downloaded, rules=GateRules.load(downloaded), tags=tags)


def _failed_rules(results: Iterable[str]) -> tuple[str, ...]:
    return tuple(result.removeprefix(FAILED) for result in results if result.startswith(FAILED))
