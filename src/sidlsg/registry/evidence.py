"""Brings back what the gate recorded of a version: scorecard, verdict and rules, each as the version's tags say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.registry.connection import connect
from sidlsg.registry.description import RULE
from sidlsg.registry.explain import explained
from sidlsg.registry.promotion import VERDICT_TAG
from sidlsg.registry.rules import GateRules
from sidlsg.registry.score_log import FOLDER, SCORECARD_TAG
from sidlsg.registry.versions import require_same_student
from sidlsg.runtime.errors import ContentError, InputError, VerdictError
from sidlsg.storage.files import require_digest, sha256_file
from sidlsg.storage.records import ModelVersion, Scorecard, Verdict

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
    tags = _judged_tags(version, tracking_uri)
    which = f"version {version.version} of {version.name!r}"
    if tags["verdict"] != "passed":
        raise VerdictError(f"{which} did not pass the gate there ({_failed(tags)}), so it goes nowhere else")
    place = _download(version, tracking_uri, folder, tags, tuple(_DIGEST_TAGS))
    verdict = Verdict.load(place)
    told = (verdict.name, verdict.version, verdict.scorecard_sha256, verdict.rules_sha256, verdict.passed)
    if told != (version.name, version.version, tags[SCORECARD_TAG], tags[RULES_TAG], True):
        # A gate that was stopped between two tags leaves such.
        raise ContentError(f"the tags of {which} are not those of its verdict; run the gate there again")
    return Evidence(folder=place, verdict=verdict, rules=GateRules.load(place), tags=tags)


@explained
def fetch_judged(version: ModelVersion, tracking_uri: str, folder: Path) -> tuple[Path, GateRules]:
    """Download the scorecard and the rules by which a version was judged, whatever the verdict, and check them.

    Args:
        version: of a student.
        tracking_uri: of its registry.
        folder: an empty one, for the files.

    Returns:
        The scorecard's folder, and the rules.

    Raises:
        ContentError: a file is missing, or is not what the version's tags say.
        InputError: there is no such version, or the gate never judged it.
    """
    tags = _judged_tags(version, tracking_uri)
    place = _download(version, tracking_uri, folder, tags, (Scorecard.FILE, GateRules.FILE))
    return place, GateRules.load(place)


def _judged_tags(version: ModelVersion, tracking_uri: str) -> Mapping[str, str]:
    client = connect(tracking_uri)
    tags: Mapping[str, str] = require_same_student(client, version.name, version.version, version.student_sha256).tags
    if any(tag not in tags for tag in ("verdict", *_DIGEST_TAGS.values())):
        raise InputError(f"version {version.version} of {version.name!r} has no verdict; run `sidlsg gate` there first")
    return tags


def _download(
    version: ModelVersion, tracking_uri: str, folder: Path, tags: Mapping[str, str], names: Sequence[str]
) -> Path:
    """What the gate left, with these files and the scorecard's as their digests say."""
    client, which = connect(tracking_uri), f"version {version.version} of {version.name!r}"
    there = {file.path for file in client.list_artifacts(version.run_id, FOLDER)}
    for name in names:
        if f"{FOLDER}/{name}" not in there:
            raise ContentError(f"{FOLDER}/{name} of {which} is missing; run the gate there again")
    place = Path(client.download_artifacts(version.run_id, FOLDER, str(folder)))
    for name in names:
        require_digest(f"{FOLDER}/{name} of {which}", sha256_file(place / name), tags[_DIGEST_TAGS[name]])
    Scorecard.load(place).verify(place)
    return place


def _failed(tags: Mapping[str, str]) -> str:
    rules = [said for key, said in sorted(tags.items()) if key.startswith(RULE)]
    failed = [said.removeprefix(_FAILED) for said in rules if said.startswith(_FAILED)]
    return "; ".join(failed) or "it does not say why"
