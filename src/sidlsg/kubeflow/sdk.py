"""All that runs need of Kubeflow Pipelines, which comes with an extra of this package; says so where it is missing."""

from typing import Any

from sidlsg.kubeflow.profile import Profile
from sidlsg.runtime.errors import InputError

try:
    from kfp import compiler, dsl, local
    from kfp.compiler import KubernetesManifestOptions
    from kfp.local import cache as cache_module
    from kfp.local import subprocess_task_handler
    from kfp.local.cache import LocalCache
    from kfp.local.config import LocalExecutionConfig
    from kfp.local.orchestrator import task_spec_utils

    from sidlsg.components.cluster import pipeline_config, using  # type: ignore[import-not-found]
    from sidlsg.pipelines.curate import curate  # type: ignore[import-not-found]
    from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate  # type: ignore[import-not-found]
    from sidlsg.pipelines.evaluate_only import evaluate_only  # type: ignore[import-not-found]
    from sidlsg.pipelines.noticed import noticed  # type: ignore[import-not-found]
    from sidlsg.pipelines.sweep import make_sweep, sweep  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    if error.name not in ("kfp", "kfp.kubernetes"):
        raise
    raise InputError(
        f"{error.name} is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'"
    ) from error

PIPELINES = {
    "distil_and_evaluate": distil_and_evaluate,
    "sweep": sweep,
    "evaluate_only": evaluate_only,
    "curate": curate,
}
"""By the names that the command line takes, as they run on one machine."""
NOTICED = (distil_and_evaluate.name, sweep.name, evaluate_only.name)
"""The pipelines whose failed and rejected runs send a notice on a cluster."""


def for_cluster(pipeline: Any, profile: Profile | None) -> Any:
    """A pipeline traced once more: its steps as a profile has them, and after them the notice of how it ended."""
    with using(profile):
        config = pipeline_config()
        if pipeline.name not in NOTICED:
            return dsl.pipeline(name=pipeline.name, pipeline_config=config)(pipeline.pipeline_func)
        return noticed(dsl.pipeline(name=pipeline.name)(pipeline.pipeline_func), config)


def manifest_options(version: str, namespace: str) -> Any:
    """How a compiled pipeline becomes objects of Kubernetes: the pipeline itself, and one version of it."""
    return KubernetesManifestOptions(
        pipeline_version_name=version, namespace=namespace or None, include_pipeline_manifest=True
    )


__all__ = [
    "PIPELINES",
    "LocalCache",
    "LocalExecutionConfig",
    "cache_module",
    "compiler",
    "curate",
    "distil_and_evaluate",
    "evaluate_only",
    "for_cluster",
    "local",
    "make_sweep",
    "manifest_options",
    "subprocess_task_handler",
    "sweep",
    "task_spec_utils",
]
