"""Looks for what is wrong in the registry: what killed calls left, what is not whole, and names of what was deleted."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.locks import dead_locks, locks_on
from sidlsg.registry.promotion import finish_record, planned_for, uncounted, unfinished_change
from sidlsg.registry.score_log import FOLDER as SCORES
from sidlsg.registry.score_log import SCORECARD_TAG, describe
from sidlsg.registry.teachers import TEACHER_MODEL_TAG, TEACHER_TAG, TEACHER_VERSION_TAG, check_teacher
from sidlsg.registry.tracking.runs import TRAINING_TAG
from sidlsg.registry.versions import (
    CHAMPION,
    PREVIOUS,
    STUDENT_TAG,
    alias_version,
    all_versions,
    pages,
    registered_model,
    require_version,
    run_of,
)
from sidlsg.registry.whole import COMPLETE_TAG, check_whole
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Scorecard


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be."""

    what: str
    advice: str
    """What helps."""
    mend: Callable[[], object] | None = None
    """Does it; None where a person must decide."""


@explained
def examine(tracking_uri: str, name: str, files: bool = False) -> list[Finding]:
    """What is wrong with a model, its versions, runs and claims.

    Where a claim is held, this takes as long as it takes to know whether its holder lives.

    Args:
        tracking_uri: where MLflow is, see `connect`.
        name: the registered model's.
        files: download every version and check its digests, too.

    Raises:
        InputError: there is no such model.
    """
    client = connect(tracking_uri)
    registered_model(client, name)
    # Runs, then claims, then versions: who is at work on a run has its claim still, or its version already.
    runs = _runs(client, name)
    dead = dead_locks(client, name)
    gone = {claim.experiment_id for claim in dead}
    held = {claim.name for claim in locks_on(client, name) if claim.experiment_id not in gone}
    versions = all_versions(client, name)
    aliases = dict(registered_model(client, name).aliases)
    found = [
        Finding(
            what=f"a claim whose holder is dead: {claim.name}",
            advice="the next call takes no notice of it",
            mend=partial(client.delete_experiment, claim.experiment_id),
        )
        for claim in dead
    ]
    found += _deleted_experiment(client, name)
    found += _dangling_aliases(client, name, versions, aliases)
    whole = []
    for version in sorted(versions, key=lambda version: int(version.version)):
        lacks = list(_of_version(client, version, aliases, files))
        found += lacks or _lost_scores(client, version)
        whole += [] if lacks else [version]
    found += _lost_teachers(client, versions)
    found += _doubles(client, whole, aliases)
    found += _orphans(client, name, runs, versions, held)
    change = unfinished_change(versions)
    if change is not None and not held:
        # After the alias moved only the record lacks its end.
        moved = str(aliases.get(CHAMPION)) in [str(each.version) for each in versions if change in planned_for(each)]
        found.append(
            Finding(
                what=f"change {change} of aliases was stopped {'after' if moved else 'before'} the champion's moved",
                advice="its record needs an end" if moved else "run the same command again",
                mend=partial(finish_record, client, name) if moved else None,
            )
        )
    elif not held and uncounted(client, name, versions):
        found.append(
            Finding(
                what="the last change of aliases is not counted",
                advice="the model's count needs its number",
                mend=partial(finish_record, client, name),
            )
        )
    return found


@explained
def mend(tracking_uri: str, finding: Finding) -> None:  # noqa: ARG001 - the decorator names it in messages
    """Do what a finding advises, where the program can.

    Args:
        tracking_uri: of the registry that was examined.
        finding: one of `examine`'s.

    Raises:
        InputError: somebody has begun to use it meanwhile.
        StorageError: MLflow did not do it.
    """
    if finding.mend is not None:
        finding.mend()


def _of_version(client: MlflowClient, version: Any, aliases: dict[str, Any], files: bool) -> Iterator[Finding]:
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
    check = partial(check_whole, files=files) if STUDENT_TAG in version.tags else check_teacher
    try:
        check(client, version)
    except InputError as error:
        named = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
        yield Finding(
            what=f"version {version.version} is not whole: {error}",
            advice=(
                f"it is {' and '.join(named)}: roll back, promote another version or delete the alias, then look again"
                if named
                else "register it again after it is removed"
            ),
            mend=None if named else partial(_drop, client, version),
        )


def _deleted_experiment(client: MlflowClient, name: str) -> Iterator[Finding]:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        yield Finding(
            what=f"the experiment {name!r} was deleted, and its runs with it",
            advice="restore it: `mlflow gc` would delete the versions' files with it",
            mend=partial(client.restore_experiment, experiment.experiment_id),
        )


def _dangling_aliases(
    client: MlflowClient, name: str, versions: list[Any], aliases: dict[str, Any]
) -> Iterator[Finding]:
    there = {int(version.version) for version in versions}
    for alias, number in sorted(aliases.items()):
        # One that was made since the versions were read is there, too.
        if int(number) in there or not _is_gone(client, name, int(number)):
            continue
        before = aliases.get(PREVIOUS) if alias == CHAMPION else None
        yield Finding(
            what=f"the alias {alias!r} names version {number}, which was deleted",
            advice=(
                f"remove it, then `sidlsg rollback` makes version {before} the champion again"
                if before is not None and int(before) in there
                else "remove it, then promote another version"
                if alias == CHAMPION
                else "remove it: it leads nowhere"
            ),
            mend=partial(_drop_alias, client, name, alias, int(number)),
        )


def _is_gone(client: MlflowClient, name: str, number: int) -> bool:
    try:
        require_version(client, name, number)
    except InputError:
        return True
    return False


def _drop_alias(client: MlflowClient, name: str, alias: str, number: int) -> None:
    """Remove an alias, unless it names another version by now."""
    if alias_version(client, name, alias) == number and _is_gone(client, name, number):
        client.delete_registered_model_alias(name, alias)


def _lost_scores(client: MlflowClient, version: Any) -> Iterator[Finding]:
    if SCORECARD_TAG not in version.tags or not version.run_id:
        return
    if f"{SCORES}/{Scorecard.FILE}" not in {file.path for file in client.list_artifacts(version.run_id, SCORES)}:
        yield Finding(
            what=f"version {version.version} was scored, and its scorecard is gone",
            advice="the gate compares nothing with it: evaluate and gate it again",
        )


def _lost_teachers(client: MlflowClient, versions: list[Any]) -> Iterator[Finding]:
    for version in sorted(versions, key=lambda version: int(version.version)):
        model, number = (version.tags.get(tag) for tag in (TEACHER_MODEL_TAG, TEACHER_VERSION_TAG))
        if not model or not number:
            continue
        teachers = {str(each.version): each for each in all_versions(client, model)}
        if number in teachers:
            continue
        digest = version.tags.get(TEACHER_TAG)
        again = [each for each, teacher in teachers.items() if digest and teacher.tags.get(TEACHER_TAG) == digest]
        yield Finding(
            what=f"version {version.version} names version {number} of {model!r} as its teacher, which was deleted",
            advice=(
                f"the same teacher is version {again[0]} there"
                if again
                else f"`sidlsg register-teacher --name {shlex.quote(model)}` registers it again; then look again"
            ),
            mend=partial(_link_teacher, client, version, again[0]) if again else None,
        )


def _link_teacher(client: MlflowClient, version: Any, number: str) -> None:
    """Name a teacher's version on a student's, in its tag and its description."""
    client.set_model_version_tag(version.name, str(version.version), TEACHER_VERSION_TAG, number)
    describe(client, version, {**version.tags, TEACHER_VERSION_TAG: number})


def _drop(client: MlflowClient, version: Any) -> None:
    """Remove a version that is not whole, so that registering its student uploads what its run lacks."""
    with contextlib.suppress(MlflowException):  # the run may be gone, or have no such tag
        client.delete_tag(version.run_id, COMPLETE_TAG)
    client.delete_model_version(version.name, version.version)


def _doubles(client: MlflowClient, versions: list[Any], aliases: dict[str, Any]) -> Iterator[Finding]:
    for key in (STUDENT_TAG, TEACHER_TAG):
        lowest: dict[str, int] = {}
        for version in sorted(versions, key=lambda version: int(version.version)):
            digest, number = version.tags.get(key), int(version.version)
            # A student's version has its teacher's digest, too.
            if digest is None or (key == TEACHER_TAG and STUDENT_TAG in version.tags):
                continue
            first = lowest.setdefault(digest, number)
            if first != number:
                named = str(number) in map(str, aliases.values())
                yield Finding(
                    what=f"version {number} is the same as version {first}",
                    advice="an alias names it: promote the other first" if named else "nobody needs it",
                    mend=None if named else partial(client.delete_model_version, version.name, version.version),
                )


def _orphans(
    client: MlflowClient, name: str, runs: list[Any], versions: list[Any], held: set[str]
) -> Iterator[Finding]:
    used = {version.run_id for version in versions}
    for run in runs:
        for key, what in ((STUDENT_TAG, "student"), (TEACHER_TAG, "teacher")):
            digest = run.data.tags.get(key)
            if digest is None:
                continue
            thing = f"{name}/{what} {digest[:16]}."
            # What followed a training tells of it, with or without a version.
            kept = run.info.run_id in used or TRAINING_TAG in run.data.tags
            if not kept and not any(thing in claim for claim in held):
                yield Finding(
                    what=f"run {run.info.run_id} of {what} {digest[:16]} belongs to no version",
                    advice="registering makes another (`mlflow gc` frees the files of a removed one)",
                    mend=partial(_remove_run, client, name, run.info.run_id, thing),
                )
            break


def _remove_run(client: MlflowClient, name: str, run_id: str, thing: str) -> None:
    """Remove a run, unless somebody has begun to use it meanwhile."""
    at_work = any(thing in claim.name for claim in locks_on(client, name))
    if at_work or run_id in {version.run_id for version in all_versions(client, name)}:
        raise InputError(f"run {run_id} is in use now; look again when that has ended")
    client.delete_run(run_id)


def _runs(client: MlflowClient, name: str) -> list[Any]:
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return []
    return pages(client.search_runs, experiment_ids=[experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY)
