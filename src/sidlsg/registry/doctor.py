"""Finds faults of the registry: what killed calls left, incomplete versions, and references to what was deleted."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import COMPLETE_TAG, artifacts, check_complete
from sidlsg.registry.locks import dead_locks, locks_on
from sidlsg.registry.promotion import finish_record, is_uncounted, unfinished_change
from sidlsg.registry.score_log import FOLDER as SCORES
from sidlsg.registry.score_log import SCORECARD_TAG, update_description
from sidlsg.registry.teachers import TEACHER_MODEL_TAG, TEACHER_TAG, TEACHER_VERSION_TAG, check_teacher
from sidlsg.registry.tracking.runs import TRAINING_TAG
from sidlsg.registry.versions import (
    CHAMPION,
    PREVIOUS,
    STUDENT_TAG,
    alias_version,
    all_versions,
    found_or_none,
    pages,
    registered_model,
    run_of,
)
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Scorecard


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault of the registry."""

    what: str
    advice: str
    mend: Callable[[], object] | None = None
    """Follows the advice; None where a person must decide."""


@explained
def examine(tracking_uri: str, name: str, files: bool = False) -> list[Finding]:
    """The faults of a model, its versions, runs and locks; with `files`, also of every file's digest.

    Where a lock is held, this waits until it is known whether the holder lives.

    Raises:
        InputError: there is no such model.
    """
    client = connect(tracking_uri)
    registered_model(client, name)
    # Runs, then locks, then versions: whoever works on a run still has the lock, or has made the version already.
    experiment = client.get_experiment_by_name(name)
    runs = []
    if experiment is not None and experiment.lifecycle_stage != "deleted":
        runs = pages(client.search_runs, experiment_ids=[experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY)
    dead = dead_locks(client, name)
    dead_ids = {lock.experiment_id for lock in dead}
    held = [lock.name for lock in locks_on(client, name) if lock.experiment_id not in dead_ids]
    versions = all_versions(client, name)
    aliases = {alias: int(number) for alias, number in registered_model(client, name).aliases.items()}
    found = [
        Finding(
            what=f"a lock whose holder is dead: {lock.name}",
            advice="the next call ignores it",
            mend=partial(client.delete_experiment, lock.experiment_id),
        )
        for lock in dead
    ]
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        found.append(
            Finding(
                what=f"the experiment {name!r} was deleted, and its runs with it",
                advice="restore it: `mlflow gc` would delete the versions' files with it",
                mend=partial(client.restore_experiment, experiment.experiment_id),
            )
        )
    found += _dangling_aliases(client, name, versions, aliases)
    complete = []
    for version in versions:
        faults = list(_of_version(client, version, aliases, files))
        found += faults or _lost_scores(client, version)
        complete += [] if faults else [version]
    for version in versions:
        found += _lost_teacher(client, version)
    found += _duplicates(client, complete, aliases)
    found += _orphans(client, name, runs, versions, held)
    if not held:
        found += _unfinished(client, name, versions, aliases)
    return found


@explained
def mend(tracking_uri: str, finding: Finding) -> None:  # noqa: ARG001 - the decorator names it in messages
    """Follow the advice, where the program can; InputError if another process has begun to use it meanwhile."""
    if finding.mend is not None:
        finding.mend()


def _names(aliases: Mapping[str, int], version: Any) -> list[str]:
    return [alias for alias, number in aliases.items() if number == int(version.version)]


def _of_version(client: MlflowClient, version: Any, aliases: Mapping[str, int], files: bool) -> Iterator[Finding]:
    run = run_of(client, version) if version.run_id else None
    if run is not None and run.info.lifecycle_stage == "deleted":
        yield Finding(
            what=f"the run of version {version.version} was deleted",
            advice="restore it: `mlflow gc` would delete the version's files with it",
            mend=partial(client.restore_run, version.run_id),
        )
        return
    if not {STUDENT_TAG, TEACHER_TAG} & version.tags.keys():
        if version.run_id and run is None:
            yield Finding(
                what=f"the run of version {version.version} is gone",
                advice="another program made the version: make another one by it",
            )
        return
    check = partial(check_complete, files=files) if STUDENT_TAG in version.tags else check_teacher
    try:
        check(client, version)
    except InputError as error:
        names = _names(aliases, version)
        yield Finding(
            what=f"version {version.version} is not whole: {error}",
            advice=(
                f"it is {' and '.join(names)}: roll back, promote another version or delete the alias, then look again"
                if names
                else "register it again after it is removed"
            ),
            mend=None if names else partial(_drop_incomplete, client, version),
        )


def _drop_incomplete(client: MlflowClient, version: Any) -> None:
    """Remove a version so that registering its student uploads what its run lacks."""
    with contextlib.suppress(MlflowException):  # the run may be gone, or have no such tag
        client.delete_tag(version.run_id, COMPLETE_TAG)
    client.delete_model_version(version.name, version.version)


def _dangling_aliases(
    client: MlflowClient, name: str, versions: list[Any], aliases: Mapping[str, int]
) -> Iterator[Finding]:
    numbers = {int(version.version) for version in versions}
    for alias, number in sorted(aliases.items()):
        # A version may have been made since the versions were read.
        if number in numbers or not _is_gone(client, name, number):
            continue
        before = aliases.get(PREVIOUS)
        if alias != CHAMPION:
            advice = "remove it: its version does not exist"
        elif before in numbers:
            advice = f"remove it, then `sidlsg rollback` makes version {before} the champion again"
        else:
            advice = "remove it, then promote another version"
        yield Finding(
            what=f"the alias {alias!r} names version {number}, which was deleted",
            advice=advice,
            mend=partial(_drop_alias, client, name, alias, number),
        )


def _is_gone(client: MlflowClient, name: str, number: int) -> bool:
    return found_or_none(client.get_model_version, name, str(number)) is None


def _drop_alias(client: MlflowClient, name: str, alias: str, number: int) -> None:
    """Remove an alias, unless it names another version by now."""
    if alias_version(client, name, alias) == number and _is_gone(client, name, number):
        client.delete_registered_model_alias(name, alias)


def _lost_scores(client: MlflowClient, version: Any) -> Iterator[Finding]:
    if SCORECARD_TAG not in version.tags or not version.run_id:
        return
    if f"{SCORES}/{Scorecard.FILE}" not in artifacts(client, version.run_id, SCORES):
        yield Finding(
            what=f"version {version.version} was scored, and its scorecard is gone",
            advice="the gate compares nothing with it: evaluate and gate it again",
        )


def _lost_teacher(client: MlflowClient, version: Any) -> Iterator[Finding]:
    model, number = (version.tags.get(tag) for tag in (TEACHER_MODEL_TAG, TEACHER_VERSION_TAG))
    if not model or not number:
        return
    teachers = {str(each.version): each for each in all_versions(client, model)}
    if number in teachers:
        return
    digest = version.tags.get(TEACHER_TAG)
    same = [each for each, teacher in teachers.items() if digest and teacher.tags.get(TEACHER_TAG) == digest]
    yield Finding(
        what=f"version {version.version} names version {number} of {model!r} as its teacher, which was deleted",
        advice=(
            f"the same teacher is version {same[0]} there"
            if same
            else f"`sidlsg register-teacher --name {shlex.quote(model)}` registers it again; then look again"
        ),
        mend=partial(_link_teacher, client, version, same[0]) if same else None,
    )


def _link_teacher(client: MlflowClient, version: Any, number: str) -> None:
    """Name a teacher's version on a student's, in its tag and its description."""
    client.set_model_version_tag(version.name, str(version.version), TEACHER_VERSION_TAG, number)
    update_description(client, version, {**version.tags, TEACHER_VERSION_TAG: number})


def _duplicates(client: MlflowClient, versions: list[Any], aliases: Mapping[str, int]) -> Iterator[Finding]:
    first: dict[tuple[str, str], str] = {}
    for version in versions:
        # A student's version has its teacher's digest, too.
        key = STUDENT_TAG if STUDENT_TAG in version.tags else TEACHER_TAG
        if key not in version.tags:
            continue
        original = first.setdefault((key, version.tags[key]), version.version)
        if original != version.version:
            named = bool(_names(aliases, version))
            yield Finding(
                what=f"version {version.version} is the same as version {original}",
                advice="an alias names it: promote the other first" if named else "nobody needs it",
                mend=None if named else partial(client.delete_model_version, version.name, version.version),
            )


def _orphans(
    client: MlflowClient, name: str, runs: list[Any], versions: list[Any], held: list[str]
) -> Iterator[Finding]:
    used = {version.run_id for version in versions}
    for run in runs:
        kind = "student" if STUDENT_TAG in run.data.tags else "teacher"
        digest = run.data.tags.get(STUDENT_TAG, run.data.tags.get(TEACHER_TAG))
        # A training's run stays, with or without a version.
        if digest is None or run.info.run_id in used or TRAINING_TAG in run.data.tags:
            continue
        thing = f"{name}/{kind} {digest[:16]}."
        if not any(thing in lock for lock in held):
            yield Finding(
                what=f"run {run.info.run_id} of {kind} {digest[:16]} belongs to no version",
                advice="registering makes another (`mlflow gc` frees the files of a removed one)",
                mend=partial(_remove_run, client, name, run.info.run_id, thing),
            )


def _remove_run(client: MlflowClient, name: str, run_id: str, thing: str) -> None:
    """Remove a run, unless another process has begun to use it meanwhile."""
    at_work = any(thing in lock.name for lock in locks_on(client, name))
    if at_work or run_id in {version.run_id for version in all_versions(client, name)}:
        raise InputError(f"run {run_id} is in use now; look again when that has ended")
    client.delete_run(run_id)


def _unfinished(client: MlflowClient, name: str, versions: list[Any], aliases: Mapping[str, int]) -> Iterator[Finding]:
    finish = partial(finish_record, client, name)
    change = unfinished_change(versions, aliases.get(CHAMPION))
    if change is not None:
        number, moved = change
        yield Finding(
            what=f"change {number} of aliases was stopped {'after' if moved else 'before'} the champion's moved",
            advice="its record needs an end" if moved else "run the same command again",
            mend=finish if moved else None,
        )
    elif is_uncounted(client, name, versions):
        yield Finding(
            what="the last change of aliases is not counted",
            advice="the model's count needs its number",
            mend=finish,
        )
