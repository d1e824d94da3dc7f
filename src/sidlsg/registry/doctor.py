"""Looks for what killed or failed calls left in the registry: what nobody uses, and versions that are not whole."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from sidlsg.errors import InputError
from sidlsg.records import ModelVersion, Student, file_refs
from sidlsg.registry.claims import claims_on, dead_claims
from sidlsg.registry.connect import connect
from sidlsg.registry.explain import explained
from sidlsg.registry.fetch import download, require_model
from sidlsg.registry.package import CARD, PATH_IN_MODEL
from sidlsg.registry.promote import finish_record, planned_for, uncounted, unfinished_change
from sidlsg.registry.register import COMPLETE_TAG, MODEL_PATH, MODEL_TAG, model_digest
from sidlsg.registry.teachers import TEACHER_TAG
from sidlsg.registry.versions import CHAMPION, STUDENT_TAG, all_versions, pages, registered_model
from sidlsg.track.runs import TRAINING_TAG


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
    dead = dead_claims(client, name)
    gone = {claim.experiment_id for claim in dead}
    held = {claim.name for claim in claims_on(client, name) if claim.experiment_id not in gone}
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
    for version in sorted(versions, key=lambda version: int(version.version)):
        found += _of_version(client, version, aliases, files)
    found += _doubles(client, versions, aliases)
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


def _of_version(client: MlflowClient, version: Any, aliases: dict[str, Any], files: bool) -> Iterator[Finding]:
    student = version.tags.get(STUDENT_TAG)
    if student is None:
        return  # another program's, or a teacher's
    try:
        _check_whole(client, version, files)
    except InputError as error:
        named = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
        yield Finding(
            what=f"version {version.version} is not whole: {error}",
            advice=(
                f"it is {' and '.join(named)}: roll back or promote another version, then look again"
                if named
                else "register the student again after it is removed"
            ),
            mend=None if named else partial(_drop, client, version),
        )


def _drop(client: MlflowClient, version: Any) -> None:
    """Remove a version that is not whole, so that registering its student uploads what its run lacks."""
    with contextlib.suppress(MlflowException):  # the run may be gone, or have no such tag
        client.delete_tag(version.run_id, COMPLETE_TAG)
    client.delete_model_version(version.name, version.version)


def _check_whole(client: MlflowClient, version: Any, files: bool) -> None:
    student = version.tags[STUDENT_TAG]
    try:
        run = client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise InputError("its run is gone") from error
    if run.info.lifecycle_stage == "deleted":
        raise InputError("its run was deleted")
    if run.data.tags.get(COMPLETE_TAG) != student:
        raise InputError("its run was not completed with this student")
    if files:
        record = ModelVersion(
            name=version.name, version=int(version.version), run_id=version.run_id, student_sha256=student
        )
        with tempfile.TemporaryDirectory() as scratch:
            model = download(client, record, version.run_id, MODEL_PATH, scratch)
            # Earlier versions have no such tag.
            require_model(record, model, run.data.tags.get(MODEL_TAG) or model_digest(model))
        return
    place = f"{MODEL_PATH}/{PATH_IN_MODEL}"
    there = _names(client, version.run_id, place)
    if Student.FILE not in there:
        raise InputError(f"{Student.FILE} is not among its files")
    with tempfile.TemporaryDirectory() as scratch:
        downloaded = client.download_artifacts(version.run_id, f"{place}/{Student.FILE}", scratch)
        wanted = {CARD, *(ref.path for ref in file_refs(Student.load(Path(downloaded))))}
    missing = sorted(wanted - there)
    if missing:
        raise InputError(f"{len(missing)} of its files are missing: {', '.join(missing[:3])}")


def _names(client: MlflowClient, run_id: str, place: str) -> set[str]:
    """The files below a place among a run's artifacts, relative to it."""
    found: set[str] = set()
    for file in client.list_artifacts(run_id, place):
        inner = file.path.removeprefix(f"{place}/")
        found |= {f"{inner}/{name}" for name in _names(client, run_id, file.path)} if file.is_dir else {inner}
    return found


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
    at_work = any(thing in claim.name for claim in claims_on(client, name))
    if at_work or run_id in {version.run_id for version in all_versions(client, name)}:
        raise InputError(f"run {run_id} is in use now; look again when that has ended")
    client.delete_run(run_id)


def _runs(client: MlflowClient, name: str) -> list[Any]:
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return []
    return pages(client.search_runs, experiment_ids=[experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY)
