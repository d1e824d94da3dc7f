"""All that runs need of Kubeflow Pipelines, which comes with an extra of this package; says so where it is missing."""

from sidlsg.errors import InputError

try:
    from kfp import compiler, local
    from kfp.local.config import LocalExecutionConfig

    from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    if error.name != "kfp":
        raise
    raise InputError("kfp is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'") from error

__all__ = ["LocalExecutionConfig", "compiler", "distil_and_evaluate", "local"]
