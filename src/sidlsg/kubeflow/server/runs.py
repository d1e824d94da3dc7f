"""Experiments, pipeline versions and runs on a Kubeflow Pipelines server.

Every call raises InputError if the server refuses it, and StorageError if it does not answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.compile import CompiledPipeline
from sidlsg.kubeflow.server.connection import PipelinesServer, api, named, pages
from sidlsg.runtime.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class VersionId:
    """One version of a pipeline on a server, and its name."""

    pipeline_id: str
    version_id: str
    version: str

    @property
    def reference(self) -> Any:
        """The version in the server's API."""
        return api.V2beta1PipelineVersionReference(pipeline_id=self.pipeline_id, pipeline_version_id=self.version_id)


def find_experiment(server: PipelinesServer, name: str) -> str | None:
    """The id of an experiment, without a retry; None if there is none."""
    listed = server.experiments.experiment_service_list_experiments
    return server.find_id(listed, "experiments", "experiment_id", name)


def ensure_experiment(server: PipelinesServer, name: str) -> str:
    """The id of an experiment, made if there is none."""
    body = api.V2beta1Experiment(display_name=name, namespace=server.connection.namespace or None)
    return server.once(
        f"make the experiment {name!r}",
        lambda: find_experiment(server, name),
        lambda: str(server.experiments.experiment_service_create_experiment(body).experiment_id),
    )


def find_pipeline(server: PipelinesServer, name: str) -> str | None:
    """The id of a pipeline, without a retry; None if there is none."""
    return server.find_id(server.pipelines.pipeline_service_list_pipelines, "pipelines", "pipeline_id", name)


def list_versions(server: PipelinesServer, pipeline_id: str) -> list[Any]:
    """A pipeline's versions, the newest first, without a retry."""
    return pages(
        lambda **arguments: server.pipelines.pipeline_service_list_pipeline_versions(pipeline_id, **arguments),
        "pipeline_versions",
        sort_by="created_at desc",
    )


def find_compiled(server: PipelinesServer, compiled: CompiledPipeline) -> VersionId | None:
    """The version that has a compiled pipeline's content, without a retry; None if there is none."""
    pipeline_id = find_pipeline(server, compiled.name)
    if pipeline_id is None:
        return None
    versions = list_versions(server, pipeline_id)
    ids = [str(each.pipeline_version_id) for each in versions if each.display_name == compiled.version]
    return VersionId(pipeline_id=pipeline_id, version_id=ids[-1], version=compiled.version) if ids else None


def ensure_version(server: PipelinesServer, compiled: CompiledPipeline) -> VersionId:
    """The version that has a compiled pipeline's content, uploaded if there is none."""
    body = api.V2beta1Pipeline(
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


def get_version(server: PipelinesServer, pipeline: str, version: str) -> VersionId:
    """A version by name; empty for the newest."""
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


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One run on the server."""

    run_id: str
    name: str
    state: str
    """Kubeflow Pipelines' own word: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED, SKIPPED, ..."""

    @classmethod
    def of(cls, run: Any) -> RunState:
        """From the server's answer; a new run has no state yet."""
        return cls(run_id=str(run.run_id), name=str(run.display_name), state=str(run.state or "PENDING"))


class Kubeflow:
    """The runs of one experiment, by name; a repeated call starts no second run.

    Kubeflow Pipelines has no compare-and-set: two processes that start the same name can both find no run, even if one
    was suspended in between. So a name is looked up after a run is made, too: the oldest run of the name stays, and
    whoever made another one ends it. Times are of whole seconds; two runs of one second can both stay.
    """

    def __init__(self, server: PipelinesServer, experiment: str) -> None:
        """Nothing is sent yet; the experiment is made with its first run."""
        self.server = server
        self.experiment = experiment
        self._experiment_id: str | None = None

    def find(self, name: str) -> RunState | None:
        """The oldest run of exactly this name in the experiment; None if there is none."""
        return self.server.ask("list runs", lambda: self._find(name))

    def start(self, name: str, pipeline: str, version: str, parameters: Mapping[str, Any]) -> RunState:
        """Start a run of a pipeline's version, empty for the newest, or find the run that has this name.

        Raises:
            InputError: there is no such pipeline or version, or the server refused the run.
            StorageError: the server does not answer; the run may have been started, and the same call finds it.
        """
        found = self.find(name)
        return found or self.start_version(name, get_version(self.server, pipeline, version), parameters)

    def start_version(self, name: str, version: VersionId, parameters: Mapping[str, Any]) -> RunState:
        """As `start`, for a version that is known by its id."""
        self._experiment_id = ensure_experiment(self.server, self.experiment)
        body = api.V2beta1Run(
            display_name=name,
            experiment_id=self._experiment_id,
            pipeline_version_reference=version.reference,
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters)),
        )
        made: list[str] = []

        def create() -> RunState:
            run = RunState.of(self.server.runs.run_service_create_run(body))
            made.append(run.run_id)
            return run

        started = self.server.once(f"start the run {name!r}", lambda: self._find(name), create)
        if not made:
            return started
        first = self.find(name) or started
        if first.run_id not in made:
            self.server.remove("end the second run", lambda: self.server.runs.run_service_terminate_run(started.run_id))
        return first

    def ready(self) -> None:
        """Raise a `SidlsgError` if the server does not answer, or does not let this caller list runs."""
        self.server.reach()
        self.server.ask("list experiments", lambda: find_experiment(self.server, self.experiment))

    def details(self, run_id: str) -> Any:
        """One run with its tasks, as the server's API has it."""
        return self.server.ask("show the run", lambda: self.server.runs.run_service_get_run(run_id))

    def _find(self, name: str) -> RunState | None:
        self._experiment_id = self._experiment_id or find_experiment(self.server, self.experiment)
        if self._experiment_id is None:
            return None
        found = pages(
            self.server.runs.run_service_list_runs,
            "runs",
            experiment_id=self._experiment_id,
            filter=named(name),
            sort_by="created_at asc",
        )
        same = [run for run in found if run.display_name == name]
        # Times are of whole seconds: among runs of one second, every caller must agree on the oldest.
        same.sort(key=lambda run: (str(run.created_at), str(run.run_id)))
        return RunState.of(same[0]) if same else None
