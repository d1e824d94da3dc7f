"""The promote stage: moves the aliases `champion` and `previous`, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from mlflow import MlflowClient

from sidlsg.registry.connection import connect, explained, explained_once
from sidlsg.registry.locks import Lock, holder, locked
from sidlsg.registry.versions import (
    CHAMPION,
    PREVIOUS,
    VERDICT_TAG,
    alias_version,
    all_versions,
    registered_model,
    require_run,
    require_version,
)
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import remark
from sidlsg.storage.records import Promotion, Verdict

AUDIT_TAG = "change."
"""Prefix of a version's tags, such as `change.3.0`: when it became or ceased to be the champion, by whom and why."""
CHANGES_TAG = "changes"
"""On the registered model: the number of changes of its aliases."""
_CHANGE = re.compile(rf"{re.escape(AUDIT_TAG)}([0-9]{{1,9}})\.([0-9]{{1,9}})")
_PLANNED, _DONE = "to be champion", "champion "
"""Prefixes of the tag's value before and after the champion's alias moves."""


class _Change(NamedTuple):
    """A change of a model's aliases, as one version's tags record it."""

    number: int
    attempt: int
    text: str


@explained
def promote(verdict: Verdict, tracking_uri: str) -> Promotion:
    """Make the judged version the champion, if the verdict passed and it is not the champion already.

    The champion's alias moves last: when it has moved, everything else is done. A model's aliases change one at a time,
    and a champion is only replaced by a version that was compared with it.

    Raises:
        InputError: there is no such version or its run was deleted, the verdict is not the one that the gate recorded,
            another champion came since, or another change is in progress.
    """
    client = connect(tracking_uri)
    name, number = verdict.name, str(verdict.version)
    registered = _require_usable(client, name, verdict.version)
    if not verdict.passed:
        return standing(client, name)
    finish_record(client, name)
    if alias_version(client, name, CHAMPION) == verdict.version:
        return standing(client, name)
    # A verdict of another registry, or an edited one, does not count.
    tags = registered.tags
    if (tags.get(VERDICT_TAG), tags.get("verdict")) != (verdict.digest, "passed"):
        raise InputError(
            f"the verdict given ({verdict.digest[:16]}) is not the one that version {number} of {name!r} has "
            f"({tags.get(VERDICT_TAG, 'none')[:16]}, {tags.get('verdict', 'not judged')}); "
            "run the gate in this registry, and promote by what it writes"
        )
    cause = f"promotion of version {number} by verdict {verdict.digest[:16]}"
    with locked(client, partial(_next_change, client, name), cause) as lock:
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
        return _move(client, name, verdict.version, lock, f"verdict {verdict.digest}")


@explained_once
def rollback(tracking_uri: str, name: str, reason: str) -> Promotion:
    """Exchange the champion and the previous one.

    Raises:
        InputError: there is no such model or no earlier champion, a version or its run was deleted, or another change
            is in progress.
    """
    client = connect(tracking_uri)
    if not reason.strip():
        raise InputError("no reason is given; say why, for the audit trail")
    registered_model(client, name)
    seen = alias_version(client, name, CHAMPION)
    finish_record(client, name)
    with locked(client, partial(_next_change, client, name), f"rollback from version {seen}") as lock:
        champion = alias_version(client, name, CHAMPION)
        if champion != seen:
            raise InputError(f"the champion of {name!r} is version {champion} now, and not {seen} any more; look again")
        before = _version_before(client, name)
        if require_version(client, name, before).tags.get("verdict") == "rejected":
            # Not refused: a rollback is for emergencies. Standard output holds the record.
            text = f"version {before} of {name}, which becomes the champion, was rejected by the gate since it was one"
            remark(text)
        return _move(client, name, before, lock, f"rollback: {reason.strip()}")


def standing(client: MlflowClient, name: str) -> Promotion:
    """The aliases as they are, for a call that moves none."""
    champion, previous = (alias_version(client, name, alias) for alias in (CHAMPION, PREVIOUS))
    return Promotion(name=name, champion_version=champion, previous_version=previous, changed=False)


def finish_record(client: MlflowClient, name: str) -> None:
    """Complete the record of a change that was stopped after the champion's alias moved.

    A process in the middle of that change writes the same.
    """
    champion = alias_version(client, name, CHAMPION)
    if champion is None:
        return
    version = require_version(client, name, champion)
    changes, done = _changes(version.tags), _done_numbers([version])
    planned = max((change for change in changes if change.text.startswith(_PLANNED)), default=None)
    if planned is not None and planned.number > 0 and planned.number not in done:
        text = f"{_DONE}{planned.text.removeprefix(_PLANNED).strip()}"
        client.set_model_version_tag(name, str(champion), f"{AUDIT_TAG}{planned.number}.{planned.attempt}", text)
        done.add(planned.number)
    last = max(done, default=0)
    if _counted(client, name) < last:
        client.set_registered_model_tag(name, CHANGES_TAG, str(last))


def changes_to(tags: Mapping[str, str]) -> list[int]:
    """The numbers of the changes that made a version with these tags the champion."""
    return [change.number for change in _changes(tags) if change.text.startswith((_DONE, _PLANNED))]


def unfinished_change(versions: Sequence[Any], champion: int | None) -> tuple[int, bool] | None:
    """The number of a model's last change, if it was stopped, and whether the champion's alias moved before."""
    changes = [(int(version.version), change) for version in versions for change in _changes(version.tags)]
    last = max((change.number for _, change in changes), default=0)
    texts = [(version, change.text) for version, change in changes if change.number == last]
    planned = [version for version, text in texts if text.startswith(_PLANNED)]
    done = any(text.startswith(_DONE) for _, text in texts)
    return (last, champion in planned) if planned and not done else None


def is_uncounted(client: MlflowClient, name: str, versions: Sequence[Any]) -> bool:
    """Whether a change is complete except for its number on the model."""
    return _counted(client, name) < max(_done_numbers(versions), default=0)


def _changes(tags: Mapping[str, str]) -> list[_Change]:
    """The changes that a version's tags record; other tags with the prefix are ignored."""
    found = ((_CHANGE.fullmatch(key), text) for key, text in tags.items())
    return [_Change(int(match[1]), int(match[2]), text) for match, text in found if match]


def _done_numbers(versions: Sequence[Any]) -> set[int]:
    return {change.number for each in versions for change in _changes(each.tags) if change.text.startswith(_DONE)}


def _version_before(client: MlflowClient, name: str) -> int:
    """The version that was the champion before this one."""
    champion, previous = (alias_version(client, name, alias) for alias in (CHAMPION, PREVIOUS))
    if previous == champion:
        # An earlier change was killed between the two aliases; its new champion's tags have the plan.
        planned = [
            (change, int(version.version))
            for version in all_versions(client, name)
            for change in _changes(version.tags)
            if change.text.startswith(_PLANNED)
        ]
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
    """The next change of a model's aliases, as a thing to lock."""
    # A change that was killed at its very end is not counted yet, and its number is taken.
    return f"{name}/{max([_counted(client, name), *_done_numbers(all_versions(client, name))]) + 1}"


def _counted(client: MlflowClient, name: str) -> int:
    """The number of changes that the model's tag has."""
    text = registered_model(client, name).tags.get(CHANGES_TAG, "0")
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def _move(client: MlflowClient, name: str, version: int, lock: Lock | None, why: str) -> Promotion:
    """Move the aliases, with an audit tag on both versions."""
    assert lock is not None  # there is always a next change
    number = lock.thing.rpartition("/")[2]
    champion = alias_version(client, name, CHAMPION)
    tag, who = f"{AUDIT_TAG}{number}.{lock.attempt}", f"{_now()} by {holder()}, {why}"
    details = f"instead of {champion or 'none'}, {who}"
    client.set_model_version_tag(name, str(version), tag, f"{_PLANNED} {details}")

    def check(expected: int | None) -> None:
        """Raise if this process, or its whole machine, slept while others went ahead."""
        lock.check()
        now = alias_version(client, name, CHAMPION)
        if now != expected:
            raise InputError(
                f"the champion of {name!r} became version {now} meanwhile; check that version, and run the same "
                "command again"
            )

    if champion is not None:
        check(champion)
        client.set_model_version_tag(name, str(champion), tag, f"replaced by version {version}, {who}")
        client.set_registered_model_alias(name, PREVIOUS, str(champion))
    check(champion)
    client.set_registered_model_alias(name, CHAMPION, str(version))
    check(version)
    client.set_model_version_tag(name, str(version), tag, f"{_DONE}{details}")
    client.set_registered_model_tag(name, CHANGES_TAG, number)
    previous = alias_version(client, name, PREVIOUS)
    return Promotion(name=name, champion_version=version, previous_version=previous, changed=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
