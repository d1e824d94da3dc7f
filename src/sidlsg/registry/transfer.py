"""Takes a version that passed from one registry into another, where the gate judges it again."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.exceptions import MlflowException

from sidlsg.registry.address import check_address, shown
from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import fetch_student, stored_digest, upload
from sidlsg.registry.gate import gate
from sidlsg.registry.locks import holder
from sidlsg.registry.names import check_name
from sidlsg.registry.package import CARD
from sidlsg.registry.promotion import VERDICT_TAG, promote, standing
from sidlsg.registry.registration import Circumstances, register
from sidlsg.registry.rules import GateRules
from sidlsg.registry.score_log import FOLDER, RULE, SCORECARD_TAG, PageWriter
from sidlsg.registry.versions import CHAMPION, alias_version, find_version, look_with_doctor, require_same_student
from sidlsg.runtime.errors import ContentError, InputError, VerdictError
from sidlsg.storage.files import require_digest, sha256_file
from sidlsg.storage.records import ModelVersion, Promotion, Scorecard, Verdict

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


TRANSFER_FOLDER = "transfer"
"""Where the other registry's verdict, rules and tags are among the run's artifacts, in a folder a verdict."""
TRANSFER_TAG = "transfer."
"""Begins the tags of a version that say where it came from, when, by whom and by which verdict of that registry."""
_ID = 16
"""Letters of the verdict's digest in names."""
_TAGS_FILE = "tags.json"


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What became of a version in the other registry."""

    version: ModelVersion
    """There."""
    verdict: Verdict | None
    """Of the gate there; None where the version was the champion already."""
    promotion: Promotion


def transfer(
    source_uri: str,
    name: str,
    which: str,
    tracking_uri: str,
    target_name: str = "",
    rules: GateRules | None = None,
    page: PageWriter | None = None,
) -> Transfer:
    """Register a version that passed in another registry, judge it there, and promote it if it passes.

    Everything is downloaded and checked before anything is written. A call that was stopped is continued by the same
    one again: the student makes one version, its evidence is uploaded once, and the champion's alias moves last.

    Args:
        source_uri: the registry where the version is.
        name: the model's name there.
        which: a number, or an alias such as `champion`.
        tracking_uri: the registry where it goes.
        target_name: the model's name there; by default the same.
        rules: of the gate there; by default those that the version passed before.
        page: writes the page of scores that is logged there; None for no page.

    Raises:
        InputError: the two registries are one, there is no such version, it was never judged, or a file is missing or
            is not what its digest says.
        VerdictError: it did not pass where it comes from.
        StorageError: a registry is away, busy or broken.
    """
    target_name = target_name or name
    check_name(target_name)
    check_address(tracking_uri)
    found = find_version(source_uri, name, which)
    _require_another(found, tracking_uri)
    with tempfile.TemporaryDirectory(prefix="sidlsg-transfer-") as temporary:
        scratch = Path(temporary)
        evidence = fetch_evidence(found, source_uri, scratch)
        student = fetch_student(found, source_uri, scratch / "student")
        _check_card(found, source_uri, student)
        version = register(student, tracking_uri, target_name, _circumstances(evidence.tags))
        _copy_inputs(found, source_uri, version, tracking_uri)
        # A version that was there before may have been damaged since.
        fetch_student(version, tracking_uri, scratch / "registered")
        _note(version, tracking_uri, found, source_uri, evidence)
        already = _if_champion(version, tracking_uri)
        if already is not None:
            return Transfer(version=version, verdict=None, promotion=already)
        verdict = gate(version, evidence.folder, tracking_uri, rules or evidence.rules, page=page)
        return Transfer(version=version, verdict=verdict, promotion=promote(verdict, tracking_uri))


@explained
def _require_another(version: ModelVersion, tracking_uri: str) -> None:
    """One server can have several addresses; the id of a run is nowhere else."""
    client = connect(tracking_uri, create=True)
    try:
        client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    raise InputError(
        f"the registry at {shown(tracking_uri)} is the one that version {version.version} of {version.name!r} is in "
        "already; give another, or promote it there with `sidlsg promote`"
    )


@explained
def _check_card(version: ModelVersion, tracking_uri: str, student: Path) -> None:
    """The student's record does not hold its card's digest, so the model's copy must equal the run's."""
    client, what = connect(tracking_uri), f"{CARD} of version {version.version} of {version.name!r}"
    beside = {file.path for file in client.list_artifacts(version.run_id)}
    if CARD not in beside or not (student / CARD).is_file():
        raise ContentError(f"{what} is missing; {look_with_doctor(version.name)}")
    require_digest(what, sha256_file(student / CARD), stored_digest(client, version.run_id, CARD))


def _circumstances(tags: Mapping[str, str]) -> Circumstances:
    """As the version had them; a person may have changed the tags."""
    try:
        price = float(tags.get("hourly_price", 0))
    except ValueError:
        price = math.nan
    return Circumstances(pipeline_run=tags.get("pipeline_run", ""), hourly_price=price if 0 <= price < math.inf else 0)


@explained
def _copy_inputs(found: ModelVersion, source_uri: str, version: ModelVersion, tracking_uri: str) -> None:
    """What the version was trained and evaluated from; MLflow keeps one of what is logged twice."""
    inputs = connect(source_uri).get_run(found.run_id).inputs.dataset_inputs
    connect(tracking_uri).log_inputs(version.run_id, inputs)


@explained
def _note(version: ModelVersion, tracking_uri: str, found: ModelVersion, source_uri: str, evidence: Evidence) -> None:
    """Say on the version where it came from, with the evidence beside; once for each verdict."""
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    digest = evidence.tags[VERDICT_TAG]
    tag = f"{TRANSFER_TAG}{digest[:_ID]}"
    if tag in registered.tags:
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name in (Verdict.FILE, GateRules.FILE):
            shutil.copyfile(evidence.folder / name, Path(temporary) / name)
        told = json.dumps(dict(evidence.tags), sort_keys=True, indent=2, ensure_ascii=False)
        (Path(temporary) / _TAGS_FILE).write_text(f"{told}\n", encoding="utf-8")
        upload(client, version.run_id, Path(temporary), f"{TRANSFER_FOLDER}/{digest[:_ID]}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said = f"from {found.name} version {found.version} at {shown(source_uri)}, {now} by {holder()}, verdict {digest}"
    # Last: whoever sees it finds the evidence.
    client.set_model_version_tag(version.name, str(version.version), tag, said)


@explained
def _if_champion(version: ModelVersion, tracking_uri: str) -> Promotion | None:
    """How the aliases are, where the version is the champion: the verdict that made it so stays on it."""
    client = connect(tracking_uri)
    if alias_version(client, version.name, CHAMPION) != version.version:
        return None
    return standing(client, version.name)
