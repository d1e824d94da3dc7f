"""The package's pipelines by name, for one machine and for a cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.compile import SUFFIXES, CompiledPipeline, read_compiled, write_compiled
from sidlsg.kubeflow.profile import Profile
from sidlsg.kubeflow.sdk import dsl
from sidlsg.runtime.errors import InputError, nearest

try:
    from sidlsg.components.cluster import pipeline_config, using  # type: ignore[import-not-found]
    from sidlsg.pipelines.curate import curate  # type: ignore[import-not-found]
    from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate  # type: ignore[import-not-found]
    from sidlsg.pipelines.evaluate_only import evaluate_only  # type: ignore[import-not-found]
    from sidlsg.pipelines.noticed import noticed  # type: ignore[import-not-found]
    from sidlsg.pipelines.sweep import make_sweep, sweep  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    if error.name != "kfp.kubernetes":
        raise
    raise InputError(
        "kfp.kubernetes is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'"
    ) from error

PIPELINES = {
    "distil_and_evaluate": distil_and_evaluate,
    "sweep": sweep,
    "evaluate_only": evaluate_only,
    "curate": curate,
}
"""Pipelines by their names on the command line."""
NOTICED = (distil_and_evaluate.name, sweep.name, evaluate_only.name)
"""The pipelines whose failed and rejected runs send a notice on a cluster."""


def local_sweep() -> Any:
    """The sweep for one machine, one setting at a time: two trainings would compete for its CPUs."""
    return make_sweep(at_once=1, concludes=False)


def with_profile(pipeline: Any, profile: Profile | None) -> Any:
    """A pipeline as a cluster runs it: steps get resources from the profile, and the last step sends a notice."""
    with using(profile):
        config = pipeline_config()
        if pipeline.name not in NOTICED:
            return dsl.pipeline(name=pipeline.name, pipeline_config=config)(pipeline.pipeline_func)
        return noticed(dsl.pipeline(name=pipeline.name)(pipeline.pipeline_func), config)


def compile_pipeline(
    output: Path,
    pipeline: str = "distil_and_evaluate",
    profile: Profile | None = None,
    manifest: bool = False,
    namespace: str = "",
) -> None:
    """Compile a pipeline of this package, see `write_compiled`.

    Without a profile, the environment variable `SIDLSG_IMAGE` names the container image, and the cluster's defaults
    decide the resources of the steps.

    Raises:
        InputError: there is no such pipeline, or the file cannot be written.
    """
    # Kubeflow Pipelines shows their names with hyphens.
    pipeline = pipeline.replace("-", "_")
    if pipeline not in PIPELINES:
        raise InputError(
            f"pipeline {pipeline!r} is unknown{nearest(pipeline, PIPELINES)}; allowed: {', '.join(PIPELINES)}"
        )
    write_compiled(output, with_profile(PIPELINES[pipeline], profile), manifest, namespace)


def get_compiled(pipeline: str, folder: Path = Path()) -> CompiledPipeline:
    """Compile a pipeline of this package, or read a compiled .yaml file, which may be relative to `folder`.

    Raises:
        InputError: there is no such pipeline, or the file cannot be used.
    """
    if pipeline.endswith(SUFFIXES):
        return read_compiled(folder / pipeline)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pipeline.yaml"
        compile_pipeline(path, pipeline)
        return read_compiled(path)
