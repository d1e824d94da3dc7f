"""The promote stage: moves the aliases `champion` and `previous`, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.connection import connect, explained, explained_once
from sidlsg.registry.locks import Lock, holder, locked
from sidlsg.registry.versions import (
    CHAMPION,
    PREVIOUS,
    alias_version,
    all_versions,
    registered_model,
    require_run,
    require_version,
)
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Promotion, Verdict

VERDICT_TAG = "verdict_sha256"
"""The tag of a version with the digest of the gate's last verdict on it."""
AUDIT_TAG = "change."
"""Begins the tags of a version that say when it became the champion or ceased to be, by whom and why: `change.3.0`."""
CHANGES_TAG = "changes"
"""On the registered model: how many changes of its aliases were made."""
_CHANGE = re.compile(rf"{re.escape(AUDIT_TAG)}([0-9]{{1,9}})\.([0-9]{{1,9}})")
"""Of other tags that begin so, whoever wrote them, nothing is taken."""
_PLANNED = "to be champion"
"""Begins the tag's value until it is."""
_DONE = "champion "


@explained
def promote(verdict: Verdict, tracking_uri: str) -> Promotion:
    """Make the judged version the champion, if the verdict passed and it is not the champion already.

    The champion's alias moves last: whoever sees it moved sees everything else done. One change of a model's aliases
    goes on at a time, and the champion is only replaced by a version that was compared with it.

    Raises:
        InputError: there is no such version or its run was deleted, the verdict is not the one that the gate left on
            it, another champion came since, or another change is going on.
    """
    client = connect(tracking_uri)
    name, number = verdict.name, str(verdict.version)
    registered = _require_usable(client, name, verdict.version)
    if not verdict.passed:
        return standing(client, name)
    finish_record(client, name)
    if alias_version(client, name, CHAMPION) == verdict.version:
        return standing(client, name)
    _require_recorded(registered, verdict)
    cause = f"promotion of version {number} by verdict {verdict.digest[:16]}"
    with locked(client, partial(_next_change, client, name), cause) as claim:
        champion = alias_version(client, name, CHAMPION)
        if champion == verdict.version:
            return standing(client, name)
        if champion != verdict.champion_version:
            raise InputError(
                f"version {number} of {name!r} was compared with champion version {verdict.champion_version}, but the "
                f"champion is version {champion} now; run the gate again"
            )
        client.set_model_version_tag(name, number, "promoted_by_verdict_sha256", verdict.digest)
        client.set_model_version_tag(name, number, "promoted_at", _now())
        return _move(client, name, verdict.version, claim, f"verdict {verdict.digest}")


def _require_recorded(registered: Any, verdict: Verdict) -> None:
    """A verdict counts where the gate left it: one of another registry, or edited, says nothing of this version."""
    tags = registered.tags
    if (tags.get(VERDICT_TAG), tags.get("verdict")) != (verdict.digest, "passed"):
        raise InputError(
            f"the verdict given ({verdict.digest[:16]}) is not the one that version {registered.version} of "
            f"{registered.name!r} has ({tags.get(VERDICT_TAG, 'none')[:16]}, {tags.get('verdict', 'not judged')}); "
            "run the gate in this registry, and promote by what it writes"
        )


@explained_once
def rollback(tracking_uri: str, name: str, reason: str) -> Promotion:
    """Make the version that was the champion before the champion again; the two change places.

    Raises:
        InputError: there is no such model or no earlier champion, a version or its run was deleted, or another change
            is going on.
    """
    client = connect(tracking_uri)
    if not reason.strip():
        raise InputError("no reason is given; say why, for the audit trail")
    registered_model(client, name)
    seen = alias_version(client, name, CHAMPION)
    finish_record(client, name)
    with locked(client, partial(_next_change, client, name), f"rollback from version {seen}") as claim:
        champion = alias_version(client, name, CHAMPION)
        if champion != seen:
            raise InputError(f"the champion of {name!r} is version {champion} now, and not {seen} any more; look again")
        return _move(client, name, _before(client, name), claim, f"rollback: {reason.strip()}")


def standing(client: MlflowClient, name: str) -> Promotion:
    """How the aliases are, for a call that moves none."""
    champion, previous = (alias_version(client, name, alias) for alias in (CHAMPION, PREVIOUS))
    return Promotion(name=name, champion_version=champion, previous_version=previous, changed=False)


def finish_record(client: MlflowClient, name: str) -> bool:
    """Complete the record of a change that was stopped after the champion's alias moved. Returns whether it had a gap.

    Whoever is in the middle of that change writes the same.
    """
    champion = alias_version(client, name, CHAMPION)
    if champion is None:
        return False
    version = require_version(client, name, champion)
    planned, done = max(_planned(version), default=(0, 0)), _numbers(version, _DONE)
    if planned[0] == 0 or planned[0] in done:
        counted = _made(client, name) >= max(done, default=0)
        if not counted:
            client.set_registered_model_tag(name, CHANGES_TAG, str(max(done)))
        return not counted
    tag = f"{AUDIT_TAG}{'.'.join(map(str, planned))}"
    said = f"{_DONE}{version.tags[tag].removeprefix(_PLANNED).strip()}"
    client.set_model_version_tag(name, str(champion), tag, said)
    if _made(client, name) < planned[0]:
        client.set_registered_model_tag(name, CHANGES_TAG, str(planned[0]))
    return True


def changes_to(tags: Mapping[str, str]) -> list[int]:
    """The numbers of the changes that made a version with these tags the champion."""
    return [change[0] for change, said in _audit(tags) if said.startswith((_DONE, _PLANNED))]


def unfinished_change(versions: Sequence[Any]) -> int | None:
    """The number of the last change of a model's aliases, if it was stopped before the champion's alias moved."""
    said = [(change[0], text) for version in versions for change, text in _audit(version.tags)]
    last = max((number for number, _ in said), default=0)
    texts = [text for number, text in said if number == last]
    stopped = any(text.startswith(_PLANNED) for text in texts) and not any(text.startswith(_DONE) for text in texts)
    return last if stopped else None


def uncounted(client: MlflowClient, name: str, versions: Sequence[Any]) -> bool:
    """Whether a change of a model's aliases is complete but for its number on the model."""
    done = (number for version in versions for number in _numbers(version, _DONE))
    return _made(client, name) < max(done, default=0)


def planned_for(version: Any) -> list[int]:
    """The numbers of the changes that were to make a version the champion, and whose record has no end."""
    return [change[0] for change in _planned(version)]


def _audit(tags: Mapping[str, str]) -> list[tuple[tuple[int, int], str]]:
    """The changes that a version's tags tell of: the number and the attempt, and what is said."""
    found = ((_CHANGE.fullmatch(key), said) for key, said in tags.items())
    return [((int(match[1]), int(match[2])), said) for match, said in found if match]


def _numbers(version: Any, begin: str) -> set[int]:
    """The numbers of the changes of which a version's tags begin so."""
    return {change[0] for change, said in _audit(version.tags) if said.startswith(begin)}


def _before(client: MlflowClient, name: str) -> int:
    champion, previous = (alias_version(client, name, alias) for alias in (CHAMPION, PREVIOUS))
    if previous == champion:
        # An earlier change was killed between the two aliases; what it was to bring is on the version.
        versions = all_versions(client, name)
        planned = [(change, int(version.version)) for version in versions for change in _planned(version)]
        previous = max(planned)[1] if planned else None
    if previous is None:
        raise InputError(f"model {name!r} had no champion before this one; promote another version instead")
    _require_usable(client, name, previous)
    return previous


def _require_usable(client: MlflowClient, name: str, version: int) -> Any:
    """The MLflow version of that number, whose run was not deleted."""
    found = require_version(client, name, version)
    require_run(client, found)
    return found


def _next_change(client: MlflowClient, name: str) -> str:
    """The next change of a model's aliases, as a thing to claim."""
    # One that was killed at its very end is not counted yet, and its number is taken.
    done = [number for version in all_versions(client, name) for number in _numbers(version, _DONE)]
    return f"{name}/{max([_made(client, name), *done]) + 1}"


def _made(client: MlflowClient, name: str) -> int:
    """How many changes of a model's aliases are counted."""
    told = registered_model(client, name).tags.get(CHANGES_TAG, "0")
    return int(told) if re.fullmatch("[0-9]{1,9}", told) else 0


def _move(client: MlflowClient, name: str, version: int, claim: Lock | None, why: str) -> Promotion:
    """Let the aliases change, with a line on both versions."""
    assert claim is not None  # there is always a next change
    number = claim.thing.rpartition("/")[2]
    champion = alias_version(client, name, CHAMPION)
    tag, who = f"{AUDIT_TAG}{number}.{claim.attempt}", f"{_now()} by {holder()}, {why}"
    instead = f"instead of {champion or 'none'}, {who}"
    client.set_model_version_tag(name, str(version), tag, f"{_PLANNED} {instead}")

    def check(expected: int | None) -> None:
        """This process may have slept, stopped or with its whole machine, and others gone ahead."""
        claim.check()
        now = alias_version(client, name, CHAMPION)
        if now != expected:
            raise InputError(f"the champion of {name!r} became version {now} meanwhile; look at it, and run it again")

    if champion is not None:
        check(champion)
        client.set_model_version_tag(name, str(champion), tag, f"replaced by version {version}, {who}")
        client.set_registered_model_alias(name, PREVIOUS, str(champion))
    check(champion)
    client.set_registered_model_alias(name, CHAMPION, str(version))
    check(version)
    client.set_model_version_tag(name, str(version), tag, f"{_DONE}{instead}")
    client.set_registered_model_tag(name, CHANGES_TAG, number)
    previous = alias_version(client, name, PREVIOUS)
    return Promotion(name=name, champion_version=version, previous_version=previous, changed=True)


def _planned(version: Any) -> list[tuple[int, ...]]:
    """The changes, as numbers to compare, that were to make it the champion and were not finished."""
    return [change for change, said in _audit(version.tags) if said.startswith(_PLANNED)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
