"""Kubeflow Pipelines' SDK, an extra of this package; an error names the extra where it is missing."""

from sidlsg.runtime.errors import InputError

try:
    from kfp import compiler, dsl, local
    from kfp.compiler import KubernetesManifestOptions
    from kfp.local import cache as cache_module
    from kfp.local import subprocess_task_handler
    from kfp.local.cache import LocalCache
    from kfp.local.config import LocalExecutionConfig
    from kfp.local.orchestrator import task_spec_utils
except ModuleNotFoundError as error:
    if error.name != "kfp":
        raise
    raise InputError("kfp is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'") from error

__all__ = [
    "KubernetesManifestOptions",
    "LocalCache",
    "LocalExecutionConfig",
    "cache_module",
    "compiler",
    "dsl",
    "local",
    "subprocess_task_handler",
    "task_spec_utils",
]
