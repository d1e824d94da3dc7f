"""Pipelines, their versions and experiments on a server: found by name, and made where there is none."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.compile import CompiledPipeline
from sidlsg.kubeflow.server.server import Server, named, pages
from sidlsg.runtime.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class VersionId:
    """One version of a pipeline on a server, and the name that people see."""

    pipeline_id: str
    version_id: str
    version: str

    def reference(self, server: Server) -> Any:
        """As the server's API names it."""
        return server.api.V2beta1PipelineVersionReference(
            pipeline_id=self.pipeline_id, pipeline_version_id=self.version_id
        )


def find_experiment(server: Server, name: str) -> str | None:
    """The id of an experiment, without a retry; None if there is none."""
    arguments = {"namespace": server.connection.namespace} if server.connection.namespace else {}
    found = pages(
        server.experiments.experiment_service_list_experiments, "experiments", filter=named(name), **arguments
    )
    return next((str(each.experiment_id) for each in found if each.display_name == name), None)


def ensure_experiment(server: Server, name: str) -> str:
    """The id of an experiment, made if there is none."""
    body = server.api.V2beta1Experiment(display_name=name, namespace=server.connection.namespace or None)
    return server.once(
        f"make the experiment {name!r}",
        lambda: find_experiment(server, name),
        lambda: str(server.experiments.experiment_service_create_experiment(body).experiment_id),
    )


def find_pipeline(server: Server, name: str) -> str | None:
    """The id of a pipeline, without a retry; None if there is none."""
    arguments = {"namespace": server.connection.namespace} if server.connection.namespace else {}
    found = pages(server.pipelines.pipeline_service_list_pipelines, "pipelines", filter=named(name), **arguments)
    return next((str(each.pipeline_id) for each in found if each.display_name == name), None)


def list_versions(server: Server, pipeline_id: str) -> list[Any]:
    """A pipeline's versions, the newest first, without a retry."""
    return pages(
        lambda **arguments: server.pipelines.pipeline_service_list_pipeline_versions(pipeline_id, **arguments),
        "pipeline_versions",
        sort_by="created_at desc",
    )


def find_compiled(server: Server, compiled: CompiledPipeline) -> VersionId | None:
    """The version that has a compiled pipeline's content, without a retry; None if there is none."""
    pipeline_id = find_pipeline(server, compiled.name)
    if pipeline_id is None:
        return None
    versions = list_versions(server, pipeline_id)
    ids = [str(each.pipeline_version_id) for each in versions if each.display_name == compiled.version]
    return VersionId(pipeline_id=pipeline_id, version_id=ids[-1], version=compiled.version) if ids else None


def ensure_version(server: Server, compiled: CompiledPipeline) -> VersionId:
    """The version that has a compiled pipeline's content, uploaded if there is none."""
    body = server.api.V2beta1Pipeline(
        name=compiled.name, display_name=compiled.name, namespace=server.connection.namespace or None
    )
    pipeline_id = server.once(
        f"make the pipeline {compiled.name!r}",
        lambda: find_pipeline(server, compiled.name),
        lambda: str(server.pipelines.pipeline_service_create_pipeline(body).pipeline_id),
    )

    def upload() -> VersionId:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "pipeline.yaml"
            path.write_text(compiled.text)
            made = server.uploads.upload_pipeline_version(
                str(path), name=compiled.version, display_name=compiled.version, pipelineid=pipeline_id
            )
        return VersionId(pipeline_id=pipeline_id, version_id=str(made.pipeline_version_id), version=compiled.version)

    return server.once(f"upload a version of {compiled.name!r}", lambda: find_compiled(server, compiled), upload)


def get_version(server: Server, pipeline: str, version: str) -> VersionId:
    """A version by name; "" for the newest.

    Raises:
        InputError: there is no such pipeline or version.
    """
    pipeline_id = server.ask("list pipelines", lambda: find_pipeline(server, pipeline))
    if pipeline_id is None:
        raise InputError(
            f"Kubeflow Pipelines at {server.connection.shown} has no pipeline {pipeline!r}; upload it, as `sidlsg "
            "submit` does"
        )
    found = server.ask("list pipeline versions", lambda: list_versions(server, pipeline_id))
    names = [str(each.display_name) for each in found]
    if not names or (version and version not in names):
        raise InputError(f"pipeline {pipeline} has no version {version!r}{nearest(version, names)}")
    at = names.index(version) if version else 0
    return VersionId(pipeline_id=pipeline_id, version_id=str(found[at].pipeline_version_id), version=names[at])
