"""Model versions in the registry: found by number, alias or their student's digest, and created."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import EXISTS, MISSING, connect, explained
from sidlsg.runtime.errors import InputError, StorageError, nearest
from sidlsg.storage.records import ModelVersion

STUDENT_TAG = "student_sha256"
"""On a run and a version: the Student record's digest, which makes registering idempotent."""
VERDICT_TAG = "verdict_sha256"
"""On a version: the digest of the gate's last verdict on it."""
CHAMPION, PREVIOUS = "champion", "previous"
COST_TAG = "run_cost"
"""On a version: the cost of all stages of the run that reported on it last."""
LISTED = 20
"""Names that an error message lists at most."""
_PAGE = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")


def look_with_doctor(name: str) -> str:
    """The advice for a model that has lost something."""
    return f"run `sidlsg registry doctor {shlex.quote(name)} --fix` on this registry, which mends or names what is left"


def label(version: Any) -> str:
    """A version's name in messages."""
    return f"version {version.version} of {version.name!r}"


def model_version(version: Any) -> ModelVersion:
    """The record of an MLflow version of a student."""
    return ModelVersion(
        name=version.name,
        version=int(version.version),
        run_id=version.run_id or "",
        student_sha256=version.tags[STUDENT_TAG],
    )


def pages(search: Callable[..., Any], **given: Any) -> list[Any]:
    """Every result of an MLflow search."""
    found: list[Any] = []
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token, **given)
        found.extend(page)
        token = page.token
        if not token:
            return found


def all_versions(client: MlflowClient, name: str) -> list[Any]:
    """All versions of a model, whatever its name, the lowest first."""
    quote = '"' if "'" in name else "'"
    if quote in name:  # MLflow's filters have no escape
        found = [version for version in pages(client.search_model_versions) if version.name == name]
    else:
        found = pages(client.search_model_versions, filter_string=f"name = {quote}{name}{quote}")
    return sorted(found, key=lambda version: int(version.version))


def tagged_versions(client: MlflowClient, name: str, tag: str, value: str) -> list[Any]:
    """The versions of a model with that tag, the lowest first."""
    found = client.search_model_versions(f"name = '{name}' and tags.{tag} = '{value}'")
    return sorted(found, key=lambda version: int(version.version))


def found_or_none(ask: Callable[..., Any], *given: Any, codes: Sequence[str] = (MISSING,)) -> Any:
    """What MLflow returns, or None where its error code is that it has no such thing."""
    try:
        return ask(*given)
    except MlflowException as error:
        if error.error_code not in codes:
            raise
        return None


def registered_model(client: MlflowClient, name: str) -> Any:
    """The registered model of that name; InputError if there is none."""
    # To MLflow an empty name is another error than an unknown one.
    model = found_or_none(client.get_registered_model, name) if name else None
    if model is not None:
        return model
    names = sorted(model.name for model in pages(client.search_registered_models))
    if not names:
        raise InputError(f"no model {name!r}: this registry has no model at all; register a student, or give another")
    raise InputError(f"no model {name!r} in this registry{nearest(name, names)}; it has: {_listed(names)}")


def require_version(client: MlflowClient, name: str, version: int) -> Any:
    """The MLflow version of that number; InputError if there is none."""
    found = found_or_none(client.get_model_version, name, str(version))
    if found is not None:
        return found
    model = found_or_none(client.get_registered_model, name)
    known = {} if model is None else model.aliases
    aliases = sorted(repr(alias) for alias, number in known.items() if int(number) == version)
    if aliases:
        raise InputError(
            f"the alias {' and '.join(aliases)} of model {name!r} names version {version}, which was deleted; "
            f"{look_with_doctor(name)}"
        )
    raise InputError(f"model {name!r} has no version {version}; {_choice(client, name)}")


def _choice(client: MlflowClient, name: str, aliases: Sequence[str] = ()) -> str:
    """Which versions a model has, and what to do."""
    numbers = [each.version for each in all_versions(client, name)]
    if not numbers:
        return "it has no version: register a student first"
    if len(numbers) == 1 and not aliases:
        return f"it has version {numbers[0]} alone: give that"
    known = f"version{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"
    return f"it has {known}{f', and {_listed(aliases)}' if aliases else ''}: give one of them"


def run_of(client: MlflowClient, version: Any) -> Any | None:
    """The run of a version, deleted or not; None where it is gone, or the version never had one."""
    return found_or_none(client.get_run, version.run_id, codes=(MISSING, "INVALID_PARAMETER_VALUE"))


def require_run(client: MlflowClient, version: Any) -> None:
    """Raise InputError if a version's run, which has its files, was deleted; a version may be made without one."""
    if not version.run_id:
        return
    run = run_of(client, version)
    if run is None or run.info.lifecycle_stage == "deleted":
        state = "is gone" if run is None else "was deleted"
        raise InputError(f"the run of {label(version)} {state}; {look_with_doctor(version.name)}")


def require_same_student(client: MlflowClient, version: ModelVersion) -> Any:
    """The MLflow version of a record; InputError if it is not there, of another student, or its run was deleted."""
    found = require_version(client, version.name, version.version)
    registered = found.tags.get(STUDENT_TAG, "nothing known")
    if registered != version.student_sha256:
        raise InputError(
            f"{label(version)} was made of student {registered[:16]}, not of {version.student_sha256[:16]}; "
            "give the record that register wrote for this registry"
        )
    require_run(client, found)
    return found


def alias_version(client: MlflowClient, name: str, alias: str) -> int | None:
    """The number of the version that an alias of an existing model points to.

    Raises:
        StorageError: the registry returns something that is not a number.
    """
    number = client.get_registered_model(name).aliases.get(alias)
    if number is None:
        return None
    if not (isinstance(number, int) or (isinstance(number, str) and number.isascii() and number.isdigit())):
        raise StorageError(f"alias {alias!r} of {name!r} points to {number!r}, which is not a version; check MLflow")
    return int(number)


@explained
def find_version(tracking_uri: str, name: str, which: str) -> ModelVersion:
    """The record of a student's version.

    Args:
        tracking_uri: see `connect`.
        name: the registered model's.
        which: a number such as `3`, or an alias such as `champion`.

    Raises:
        InputError: there is no such model, version or alias, the version is not a student's, or its run is deleted.
    """
    client = connect(tracking_uri)
    registered = registered_version(client, name, which)
    if not _SHA256.fullmatch(registered.tags.get(STUDENT_TAG, "")):
        raise InputError(
            f"{label(registered)} has no tag {STUDENT_TAG} with a digest, so it is not a student that "
            "`sidlsg register` registered; give another version"
        )
    require_run(client, registered)
    return model_version(registered)


def registered_version(client: MlflowClient, name: str, which: str) -> Any:
    """The MLflow version of that number or alias; InputError if there is none."""
    model, which = registered_model(client, name), which.strip()
    if which.isdecimal():
        return require_version(client, model.name, int(which))
    aliases = {alias: str(number) for alias, number in model.aliases.items()}
    if which not in aliases:
        known = [f"{alias} (version {number})" for alias, number in sorted(aliases.items())]
        raise InputError(
            f"model {model.name!r} has no version or alias {which!r}{nearest(which, aliases)}; "
            f"{_choice(client, model.name, known)}"
        )
    return require_version(client, model.name, int(aliases[which]))


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more


def create_version(
    client: MlflowClient, name: str, key: str, run: Any, path: str, tags: Mapping[str, str], description: str
) -> tuple[Any, bool]:
    """Create a version, and its model if need be; of several with the same tag `key` the lowest stays.

    Its files are at `path` among the run's artifacts. Returns the version that stays, and whether it is the new one.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise
    source = f"{run.info.artifact_uri}/{path}"
    created = client.create_model_version(name, source, run.info.run_id, tags=tags, description=description)
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


@explained
def record_cost(version: ModelVersion, tracking_uri: str, amount: float) -> None:
    """Record on a version the cost of all stages of its run, in the currency of the prices."""
    client = connect(tracking_uri)
    require_same_student(client, version)
    client.set_model_version_tag(version.name, str(version.version), COST_TAG, f"{amount:.4f}")


@explained
def student_names(tracking_uri: str) -> list[str]:
    """All students of a registry: `NAME@ALIAS` for each alias, then `NAME/NUMBER` for each version, newest first."""
    client = connect(tracking_uri)
    names = []
    for model in pages(client.search_registered_models):
        versions = [each.version for each in all_versions(client, model.name) if STUDENT_TAG in each.tags]
        aliases = client.get_registered_model(model.name).aliases
        known = set(map(str, versions))
        names += [f"{model.name}@{alias}" for alias, number in sorted(aliases.items()) if str(number) in known]
        names += [f"{model.name}/{number}" for number in reversed(versions)]
    return names
