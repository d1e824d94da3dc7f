"""Finds a registered version by its number or by an alias, as a person names it."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect
from sidlsg.registry.explain import explained
from sidlsg.registry.versions import (
    MISSING,
    STUDENT_TAG,
    all_versions,
    look_with_doctor,
    pages,
    require_run,
    require_version,
)
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.storage.records import ModelVersion

SHOWN = 20
"""How many names an error message lists."""


@explained
def find_version(tracking_uri: str, name: str, which: str) -> ModelVersion:
    """The record of a version that a student was registered as.

    Args:
        tracking_uri: where MLflow is, see `connect`.
        name: the registered model's name.
        which: a number such as `3`, or an alias such as `champion`.

    Raises:
        InputError: there is no such model, version or alias, this project did not register it, or its run is deleted.
    """
    client = connect(tracking_uri)
    model = _model(client, name)
    registered = _version(client, model, which.strip())
    student = registered.tags.get(STUDENT_TAG)
    if student is None:
        raise InputError(
            f"version {registered.version} of {name!r} has no tag {STUDENT_TAG}, so it is no student that "
            "`sidlsg register` registered; give another version"
        )
    require_run(client, registered)
    return ModelVersion(
        name=name, version=int(registered.version), run_id=registered.run_id or "", student_sha256=student
    )


def _model(client: MlflowClient, name: str) -> Any:
    try:
        # An empty name is another error to MLflow than one that is not there.
        if name:
            return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
    names = sorted(model.name for model in pages(client.search_registered_models))
    if not names:
        raise InputError(f"no model {name!r}: this registry has no model at all; register a student, or give another")
    raise InputError(f"no model {name!r} in this registry{nearest(name, names)}; it has: {_listed(names)}")


def _version(client: MlflowClient, model: Any, which: str) -> Any:
    name = model.name
    if not which.isdecimal():
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        if which not in aliases:
            known = _listed([f"{alias} (version {number})" for alias, number in sorted(aliases.items())]) or "none"
            raise InputError(
                f"model {name!r} has no alias {which!r}{nearest(which, aliases)}; give a version's number or an "
                f"alias; aliases: {known}"
            )
        return require_version(client, name, int(aliases[which]))
    try:
        return client.get_model_version(name, str(int(which)))
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
    numbers = sorted(int(version.version) for version in all_versions(client, name))
    raise InputError(
        f"model {name!r} has no version {which}; it has: {_listed([str(number) for number in numbers]) or 'none'}; "
        f"if it was there, {look_with_doctor(name)}"
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
