"""What a starter of pipeline runs needs of a server; the server's own client is not needed to read this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One run as the server tells it."""

    run_id: str
    name: str
    state: str
    """Kubeflow Pipelines' own word: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED, SKIPPED, ..."""


class PipelineRuns(Protocol):
    """The runs of one experiment on a server."""

    def find(self, name: str) -> RunState | None:
        """Find the oldest run of exactly this name in the experiment; None if there is none."""

    def start(self, name: str, pipeline: str, version: str, parameters: Mapping[str, Any]) -> RunState:
        """Start a run, or find the one that has this name already.

        Args:
            name: of the run; the same name again starts nothing.
            pipeline: name of a pipeline on the server.
            version: name of its version, or "" for the newest.
            parameters: of the pipeline, by name.
        """

    def ready(self) -> None:
        """Raise a `SidlsgError` if the server does not answer."""
