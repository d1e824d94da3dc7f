"""Brings back what the gate recorded of a version: scorecard, verdict and rules, each as the version's tags say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sidlsg.errors import ContentError, InputError, VerdictError
from sidlsg.records import ModelVersion, Scorecard, Verdict
from sidlsg.registry.connect import connect
from sidlsg.registry.description import RULE
from sidlsg.registry.explain import explained
from sidlsg.registry.promote import VERDICT_TAG
from sidlsg.registry.rules import GateRules
from sidlsg.registry.score_log import FOLDER, SCORECARD_TAG
from sidlsg.registry.versions import require_same_student
from sidlsg.storage import require_digest, sha256_file

RULES_TAG = "verdict_rules_sha256"
_DIGEST_TAGS = {
    Scorecard.FILE: SCORECARD_TAG,
    Verdict.FILE: VERDICT_TAG,
    GateRules.FILE: RULES_TAG,
}
"""Each file, and the tag with its digest: tags are in the database, and files in the artifact store."""
_FAILED = "FAILED: "
"""Starts what the gate says of a rule that was not met."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why a version passed."""

    folder: Path
    """Of the scorecard, with its pictures; verdict and rules are there too."""
    verdict: Verdict
    rules: GateRules
    tags: Mapping[str, str]
    """The version's."""


@explained
def fetch_evidence(version: ModelVersion, tracking_uri: str, folder: Path) -> Evidence:
    """Download what the gate recorded of a version that passed, and check it.

    Args:
        version: of a student.
        tracking_uri: of its registry.
        folder: an empty one, for the files.

    Raises:
        ContentError: a file is missing, or is not what the version's tags say.
        InputError: there is no such version, or the gate never judged it.
        VerdictError: it was rejected.
    """
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    tags = registered.tags
    which = f"version {version.version} of {version.name!r}"
    if any(tag not in tags for tag in ("verdict", *_DIGEST_TAGS.values())):
        raise InputError(f"{which} has no verdict; run `sidlsg gate` there first")
    if tags["verdict"] != "passed":
        raise VerdictError(f"{which} did not pass the gate there ({_failed(tags)}), so it goes nowhere else")
    there = {file.path for file in client.list_artifacts(version.run_id, FOLDER)}
    for name in _DIGEST_TAGS:
        if f"{FOLDER}/{name}" not in there:
            raise ContentError(f"{FOLDER}/{name} of {which} is missing; run the gate there again")
    place = Path(client.download_artifacts(version.run_id, FOLDER, str(folder)))
    for name, tag in _DIGEST_TAGS.items():
        require_digest(f"{FOLDER}/{name} of {which}", sha256_file(place / name), tags[tag])
    verdict = Verdict.load(place)
    told = (verdict.name, verdict.version, verdict.scorecard_sha256, verdict.rules_sha256, verdict.passed)
    if told != (version.name, version.version, tags[SCORECARD_TAG], tags[RULES_TAG], True):
        # A gate that was stopped between two tags leaves such.
        raise ContentError(f"the tags of {which} are not those of its verdict; run the gate there again")
    Scorecard.load(place).verify(place)
    return Evidence(folder=place, verdict=verdict, rules=GateRules.load(place), tags=tags)


def _failed(tags: Mapping[str, str]) -> str:
    rules = [said for key, said in sorted(tags.items()) if key.startswith(RULE)]
    failed = [said.removeprefix(_FAILED) for said in rules if said.startswith(_FAILED)]
    return "; ".join(failed) or "it does not say why"
