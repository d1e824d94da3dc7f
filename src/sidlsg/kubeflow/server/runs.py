"""The runs of one experiment on a Kubeflow Pipelines server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidlsg.kubeflow.server.interface import RunState
from sidlsg.kubeflow.server.server import Server, named, pages
from sidlsg.kubeflow.server.versions import VersionId, ensure_experiment, find_experiment, get_version


class Kubeflow:
    """Runs by name: a name is looked for before a run is made, so that a repeated call starts no second one.

    Kubeflow Pipelines has no compare-and-set: two processes that start the same name can both find no run, even if one
    was suspended in between. So a name is looked for after a run is made, too: the oldest run of the name stays, and
    whoever made another one ends it. Times are of whole seconds; two runs of one second can both stay.
    """

    def __init__(self, server: Server, experiment: str) -> None:
        """Nothing is sent yet; the experiment is made with its first run."""
        self.server = server
        self.experiment = experiment
        self._experiment_id: str | None = None

    def find(self, name: str) -> RunState | None:
        """Find the oldest run of exactly this name in the experiment; None if there is none.

        Raises:
            InputError: the server refused it.
            StorageError: it does not answer.
        """
        return self.server.ask("list runs", lambda: self._find(name))

    def start(self, name: str, pipeline: str, version: str, parameters: Mapping[str, Any]) -> RunState:
        """Start a run, or find the one that has this name already.

        Args:
            name: of the run; the same name again starts nothing.
            pipeline: name of a pipeline on the server.
            version: name of its version, or "" for the newest.
            parameters: of the pipeline, by name.

        Raises:
            InputError: there is no such pipeline or version, or the server refused the run.
            StorageError: the server does not answer; the run may have been started, and the same call finds it.
        """
        found = self.find(name)
        return found or self.start_version(name, get_version(self.server, pipeline, version), parameters)

    def start_version(self, name: str, version: VersionId, parameters: Mapping[str, Any]) -> RunState:
        """Start a run of a version that is known by its id, or find the one that has this name already."""
        api = self.server.api
        self._experiment_id = ensure_experiment(self.server, self.experiment)
        body = api.V2beta1Run(
            display_name=name,
            experiment_id=self._experiment_id,
            pipeline_version_reference=version.reference(self.server),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters)),
        )
        made: list[str] = []

        def create() -> RunState:
            run = _state(self.server.runs.run_service_create_run(body))
            made.append(run.run_id)
            return run

        started = self.server.once(f"start the run {name!r}", lambda: self._find(name), create)
        if not made:
            return started
        first = self.find(name) or started
        if first.run_id not in made:
            self._end(started.run_id)
        return first

    def _end(self, run_id: str) -> None:
        """End a run that another one of the same name came before."""
        self.server.gone("end the second run", lambda: self.server.runs.run_service_terminate_run(run_id))

    def ready(self) -> None:
        """Raise a `SidlsgError` if the server does not answer, or does not let this caller list runs."""
        self.server.ask("answer", self.server.health.healthz_service_get_healthz)
        self.server.ask("list experiments", lambda: find_experiment(self.server, self.experiment))

    def details(self, run_id: str) -> Any:
        """One run with its tasks, as the server's API has it."""
        return self.server.ask("tell of the run", lambda: self.server.runs.run_service_get_run(run_id))

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
        # Times are of whole seconds: of runs of the same one, everybody must take the same for the oldest.
        same.sort(key=lambda run: (str(run.created_at), str(run.run_id)))
        return _state(same[0]) if same else None


def _state(run: Any) -> RunState:
    # A run that was made just now has no state yet.
    return RunState(run_id=str(run.run_id), name=str(run.display_name), state=str(run.state or "PENDING"))
