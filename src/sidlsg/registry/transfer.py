"""Takes a version that passed from one registry into another, where the gate judges it again."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidlsg.registry.address import check_address, check_model_name, shown
from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import artifacts, fetch_student, stored_digest, upload
from sidlsg.registry.gate import gate
from sidlsg.registry.gate_rules import GateRules
from sidlsg.registry.locks import holder
from sidlsg.registry.package import CARD
from sidlsg.registry.promotion import promote, standing
from sidlsg.registry.registration import Circumstances, register
from sidlsg.registry.score_log import PageWriter
from sidlsg.registry.verdicts import Evidence, fetch_evidence
from sidlsg.registry.versions import (
    VERDICT_TAG,
    find_version,
    found_or_none,
    label,
    look_with_doctor,
    require_same_student,
)
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.files import require_digest, sha256_file
from sidlsg.storage.records import ModelVersion, Promotion, Verdict

TRANSFER_FOLDER = "transfer"
"""The other registry's verdict, rules and tags among the run's artifacts, in a folder for each verdict."""
TRANSFER_TAG = "transfer."
"""Prefix of a version's tags that record where it came from, when, by whom and by which verdict of that registry."""
_ID = 16
"""Letters of the verdict's digest in names."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The result of a transfer, in the target registry."""

    version: ModelVersion
    verdict: Verdict | None
    """None where the version was the champion already."""
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

    Everything is downloaded and checked before anything is written. The same call resumes a stopped one: the student
    makes one version, its evidence is uploaded once, and the champion's alias moves last.

    Args:
        source_uri: the registry that has the version.
        name: the model's name there.
        which: a number, or an alias such as `champion`.
        tracking_uri: the target registry.
        target_name: the model's name in the target; by default the same.
        rules: of the target's gate; by default those that the version passed before.
        page: see `gate`.

    Raises:
        InputError: the two registries are one, there is no such version, it was never judged, or a file is missing or
            does not match its digest.
        VerdictError: it was rejected in the source registry.
        StorageError: a registry is away, busy or broken.
    """
    target_name = target_name or name
    check_model_name(target_name)
    check_address(tracking_uri)
    source = find_version(source_uri, name, which)
    _require_another_registry(source, tracking_uri)
    with tempfile.TemporaryDirectory(prefix="sidlsg-transfer-") as temporary:
        scratch = Path(temporary)
        evidence = fetch_evidence(source, source_uri, scratch, passed=True)
        student = fetch_student(source, source_uri, scratch / "student")
        _check_card(source, source_uri, student)
        version = register(student, tracking_uri, target_name, _circumstances(evidence.tags))
        # A version that the target had before may have been damaged since.
        fetch_student(version, tracking_uri, scratch / "registered")
        _record_source(version, tracking_uri, source, source_uri, evidence)
        # The verdict that made it the champion stays on it.
        now = _standing(tracking_uri, target_name)
        if now.champion_version == version.version:
            return Transfer(version=version, verdict=None, promotion=now)
        verdict = gate(version, evidence.folder, tracking_uri, rules or evidence.rules, page=page)
        return Transfer(version=version, verdict=verdict, promotion=promote(verdict, tracking_uri))


@explained
def _require_another_registry(version: ModelVersion, tracking_uri: str) -> None:
    """Check by the run's id, which only one registry has: one server can have several addresses."""
    if found_or_none(connect(tracking_uri, create=True).get_run, version.run_id) is not None:
        raise InputError(
            f"the registry at {shown(tracking_uri)} is the one that {label(version)} is in already; give another, or "
            "promote it there with `sidlsg promote`"
        )


@explained
def _check_card(version: ModelVersion, tracking_uri: str, student: Path) -> None:
    """The student's record does not have its card's digest, so the model's copy must equal the run's."""
    client, what = connect(tracking_uri), f"{CARD} of {label(version)}"
    if CARD not in artifacts(client, version.run_id) or not (student / CARD).is_file():
        raise ContentError(f"{what} is missing; {look_with_doctor(version.name)}")
    require_digest(what, sha256_file(student / CARD), stored_digest(client, version.run_id, CARD))


def _circumstances(tags: Mapping[str, str]) -> Circumstances:
    """As the version's tags have them, which a person may have changed."""
    try:
        price = float(tags.get("hourly_price", 0))
    except ValueError:
        price = math.nan
    return Circumstances(pipeline_run=tags.get("pipeline_run", ""), hourly_price=price if 0 <= price < math.inf else 0)


@explained
def _record_source(
    version: ModelVersion, tracking_uri: str, source: ModelVersion, source_uri: str, evidence: Evidence
) -> None:
    """Record on the version where it came from, and the evidence with its run; once for each verdict."""
    client = connect(tracking_uri)
    # MLflow keeps one of inputs that are logged twice.
    client.log_inputs(version.run_id, connect(source_uri).get_run(source.run_id).inputs.dataset_inputs)
    registered = require_same_student(client, version)
    digest = evidence.tags[VERDICT_TAG]
    tag = f"{TRANSFER_TAG}{digest[:_ID]}"
    if tag in registered.tags:
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name in (Verdict.FILE, GateRules.FILE):
            shutil.copyfile(evidence.folder / name, Path(temporary) / name)
        tags = json.dumps(dict(evidence.tags), sort_keys=True, indent=2, ensure_ascii=False)
        (Path(temporary) / "tags.json").write_text(f"{tags}\n", encoding="utf-8")
        upload(client, version.run_id, Path(temporary), f"{TRANSFER_FOLDER}/{digest[:_ID]}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"from {source.name} version {source.version} at {shown(source_uri)}, {now} by {holder()}, verdict {digest}"
    # Last: a version with this tag has the evidence.
    client.set_model_version_tag(version.name, str(version.version), tag, text)


@explained
def _standing(tracking_uri: str, name: str) -> Promotion:
    return standing(connect(tracking_uri), name)
