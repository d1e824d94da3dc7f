"""Deletes a version with its artifacts and its run, and the triggers' webhook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.versions import all_versions, label, registered_version, run_of
from sidlsg.runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Something to delete."""

    what: str
    do: Callable[[], object]


@explained
def version_deletions(tracking_uri: str, name: str, which: str) -> list[Deletion]:
    """What deleting a version deletes, in order: the version itself first, so that nothing names files that are gone.

    A process that is killed in between leaves a run without a version, which `sidlsg registry doctor` finds.

    Raises:
        InputError: there is no such version, or an alias names it, such as `champion` or `previous`.
    """
    client = connect(tracking_uri)
    version = registered_version(client, name, which)

    def delete() -> None:
        # A promotion may have come in between.
        if aliases := registered_version(client, name, str(version.version)).aliases:
            raise InputError(
                f"{label(version)} is {' and '.join(sorted(aliases))}, and stays; promote another version, or delete "
                "the alias in MLflow, first"
            )
        client.delete_model_version(name, version.version)

    if version.aliases:
        delete()
    found = [Deletion(what=f"version {version.version} of {name}", do=delete)]
    run = run_of(client, version) if version.run_id else None
    others = [each for each in all_versions(client, name) if each.run_id == version.run_id]
    if run is not None and len(others) == 1:
        repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=tracking_uri)
        found.append(Deletion(what=f"its files in {run.info.artifact_uri}", do=repository.delete_artifacts))
        found.append(Deletion(what=f"its run {version.run_id}", do=partial(client.delete_run, version.run_id)))
    return found


@explained
def carry_out(tracking_uri: str, deletion: Deletion) -> None:  # noqa: ARG001 - the decorator names it in messages
    """Delete it."""
    deletion.do()
