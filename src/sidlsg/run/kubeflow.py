"""All that runs need of Kubeflow Pipelines, which comes with an extra of this package; says so where it is missing."""

from sidlsg.errors import InputError

try:
    from kfp import compiler, local
    from kfp.local.config import LocalExecutionConfig

    from sidlsg.pipelines.curate import curate  # type: ignore[import-not-found]
    from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate  # type: ignore[import-not-found]
    from sidlsg.pipelines.evaluate_only import evaluate_only  # type: ignore[import-not-found]
    from sidlsg.pipelines.sweep import make_sweep, sweep  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    if error.name != "kfp":
        raise
    raise InputError("kfp is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'") from error

PIPELINES = {
    "distil_and_evaluate": distil_and_evaluate,
    "sweep": sweep,
    "evaluate_only": evaluate_only,
    "curate": curate,
}
"""By the names that the command line takes."""

__all__ = [
    "PIPELINES",
    "LocalExecutionConfig",
    "compiler",
    "curate",
    "distil_and_evaluate",
    "evaluate_only",
    "local",
    "make_sweep",
    "sweep",
]
