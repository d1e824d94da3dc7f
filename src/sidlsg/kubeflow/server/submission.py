"""Uploads a compiled pipeline, and starts a run of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from sidlsg.kubeflow.compile import CompiledPipeline
from sidlsg.kubeflow.server.interface import RunState
from sidlsg.kubeflow.server.runs import Kubeflow
from sidlsg.kubeflow.server.versions import ensure_version, find_compiled


def run_name(compiled: CompiledPipeline, parameters: Mapping[str, Any]) -> str:
    """A name that the same pipeline with the same parameters always gets."""
    content = json.dumps([compiled.version, parameters], sort_keys=True).encode()
    return f"{compiled.name}-{hashlib.sha256(content).hexdigest()[:12]}"


def submit(
    runs: Kubeflow, compiled: CompiledPipeline, name: str, parameters: Mapping[str, Any], report: Callable[[str], None]
) -> RunState:
    """Start a run of a compiled pipeline, or find the one of this name.

    Args:
        runs: the experiment.
        compiled: uploaded, unless a version with its content is there.
        name: of the run; where there is one of this name, nothing is uploaded or started.
        parameters: checked already.
        report: takes lines for a person.

    Raises:
        InputError: the server refused something.
        StorageError: it does not answer; the same call goes on.
    """
    found = runs.find(name)
    if found is not None:
        report(f"run {name} is there already, {found.state.lower()}: no second one was started")
        return found
    version = ensure_version(runs.server, compiled)
    started = runs.start_version(name, version, parameters)
    report(f"run {name} of {compiled.name}, version {version.version}, in experiment {runs.experiment}")
    return started


def preview(
    runs: Kubeflow, compiled: CompiledPipeline, name: str, parameters: Mapping[str, Any], report: Callable[[str], None]
) -> None:
    """Tell what `submit` would do; nothing is changed."""
    found = runs.find(name)
    if found is not None:
        report(f"would start nothing: run {name} is there already, {found.state.lower()}")
        return
    known = runs.server.ask("list pipeline versions", lambda: find_compiled(runs.server, compiled))
    report(f"would {'use' if known else 'upload'} version {compiled.version} of {compiled.name}")
    report(f"would start run {name} in experiment {runs.experiment} with {json.dumps(parameters, sort_keys=True)}")
