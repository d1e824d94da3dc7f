"""Makes a model version once, though MLflow has no "create unless it exists"."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.versions import tagged_versions
from sidlsg.runtime.errors import StorageError


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
