"""Model versions in the registry: found by their student's digest, and by alias."""

from __future__ import annotations

import shlex
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.runtime.errors import InputError, StorageError

STUDENT_TAG = "student_sha256"
"""The tag on run and version that makes registering idempotent: the Student record's digest."""
CHAMPION = "champion"
PREVIOUS = "previous"
_PAGE = 100
MISSING = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's error code for what is not there."""


def look_with_doctor(name: str) -> str:
    """What to do about a model that has lost something."""
    return f"run `sidlsg registry doctor {shlex.quote(name)} --fix` on this registry, which mends or names what is left"


def versions_of(client: MlflowClient, name: str, student_sha256: str) -> list[Any]:
    """Every MLflow version of model `name` that was made of that student, the lowest first."""
    return tagged_versions(client, name, STUDENT_TAG, student_sha256)


def tagged_versions(client: MlflowClient, name: str, tag: str, value: str) -> list[Any]:
    """Every MLflow version of model `name` with that tag, the lowest first."""
    found = client.search_model_versions(f"name = '{name}' and tags.{tag} = '{value}'")
    return sorted(found, key=lambda version: int(version.version))


def registered_model(client: MlflowClient, name: str) -> Any:
    """The registered model of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        raise InputError(f"no model {name!r} in this registry; give the name of one") from error


def require_version(client: MlflowClient, name: str, version: int) -> Any:
    """The MLflow version of that number.

    Raises:
        InputError: there is none.
    """
    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        aliases = _aliases_of(client, name, version)
        if not aliases:
            raise InputError(
                f"no version {version} of model {name!r} in this registry; register the student, or if it was there, "
                f"{look_with_doctor(name)}"
            ) from error
        raise InputError(
            f"the {aliases} of model {name!r} names version {version}, which was deleted; {look_with_doctor(name)}"
        ) from error


def run_of(client: MlflowClient, version: Any) -> Any | None:
    """The run of a version, deleted or not; None where it is gone, or the version never had one."""
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code not in (MISSING, "INVALID_PARAMETER_VALUE"):
            raise
        return None


def require_run(client: MlflowClient, version: Any) -> None:
    """Check that the run of a version is there, which has its files and takes its scores.

    Raises:
        InputError: the version names a run that was deleted.
    """
    if not version.run_id:
        return  # somebody made it without one
    run = run_of(client, version)
    if run is None or run.info.lifecycle_stage == "deleted":
        raise InputError(
            f"the run of version {version.version} of {version.name!r} {'is gone' if run is None else 'was deleted'}; "
            f"{look_with_doctor(version.name)}"
        )


def require_same_student(client: MlflowClient, name: str, version: int, student_sha256: str) -> Any:
    """The MLflow version of that number, made of that student, with its run.

    Raises:
        InputError: there is none, it was made of another student, or its run was deleted.
    """
    found = require_version(client, name, version)
    registered = found.tags.get(STUDENT_TAG, "nothing known")
    if registered != student_sha256:
        raise InputError(
            f"version {version} of {name!r} was made of student {registered[:16]}, not of {student_sha256[:16]}; "
            "give the record that register wrote for this registry"
        )
    require_run(client, found)
    return found


def _aliases_of(client: MlflowClient, name: str, version: int) -> str:
    """The aliases of a version that is gone, in words; empty where none is left."""
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return ""
    named = sorted(repr(alias) for alias, number in aliases.items() if int(number) == version)
    return f"alias {' and '.join(named)}" if named else ""


def alias_version(client: MlflowClient, name: str, alias: str) -> int | None:
    """The number of the version that an alias of an existing model points to.

    Raises:
        StorageError: the registry gives something else than a number.
    """
    number = client.get_registered_model(name).aliases.get(alias)
    if number is None:
        return None
    if not (isinstance(number, int) or (isinstance(number, str) and number.isascii() and number.isdigit())):
        raise StorageError(f"alias {alias!r} of {name!r} points to {number!r}, which is no version; look at MLflow")
    return int(number)


def all_versions(client: MlflowClient, name: str) -> list[Any]:
    """All versions of a model, whatever its name."""
    quote = '"' if "'" in name else "'"
    if quote in name:  # MLflow's filters have no escape
        return [version for version in pages(client.search_model_versions) if version.name == name]
    return pages(client.search_model_versions, filter_string=f"name = {quote}{name}{quote}")


def pages(search: Any, **given: Any) -> list[Any]:
    """All that a search of MLflow's finds."""
    found: list[Any] = []
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token, **given)
        found.extend(page)
        token = page.token
        if not token:
            return found
