"""Model versions in the registry: found by their student's digest, and by alias."""

from __future__ import annotations

import shlex
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, explained
from sidlsg.runtime.errors import InputError, StorageError, nearest
from sidlsg.storage.records import ModelVersion

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


def create_version(
    client: MlflowClient, name: str, key: str, run: Any, path: str, tags: dict[str, str], description: str
) -> tuple[Any, bool]:
    """Make a version, and the model where there is none; of several equal ones the lowest stays.

    Args:
        client: of the registry.
        name: the model's.
        key: the tag that equal versions have in common.
        run: the version's, as MLflow gives it.
        path: where its files are among the run's artifacts.
        tags: of the version, `key` among them.
        description: for people.

    Returns:
        The version that there is now, and whether it is the one that was made.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        source=f"{run.info.artifact_uri}/{path}",
        run_id=run.info.run_id,
        tags=tags,
        description=description,
    )
    # MLflow's client repeats a request whose answer got lost, so even one caller can make two.
    found = tagged_versions(client, name, key, tags[key])
    if not found:
        raise StorageError(
            f"the registry made version {created.version} of {name!r} and does not list it by its tag {key}; look at "
            "MLflow's server, and run the same command again"
        )
    kept, *others = found
    for other in others:
        client.delete_model_version(name, other.version)
    return kept, kept.version == created.version


COST_TAG = "run_cost"
"""The tag with the sum over all stages of the run that reported on the version last."""


def record_cost(version: ModelVersion, tracking_uri: str, amount: float) -> None:
    """Say on a version what its run cost.

    Args:
        version: of a student.
        tracking_uri: of its registry.
        amount: of all stages together, in the currency of the prices.

    Raises:
        InputError: there is no such version, or MLflow cannot be reached.
    """
    # Imported here: MLflow takes seconds, and a run without prices has no cost to record.
    from sidlsg.registry.connection import connect, explained

    @explained
    def record(tracking_uri: str) -> None:
        client = connect(tracking_uri)
        registered = require_same_student(client, version.name, version.version, version.student_sha256)
        client.set_model_version_tag(registered.name, str(registered.version), COST_TAG, f"{amount:.4f}")

    record(tracking_uri)
