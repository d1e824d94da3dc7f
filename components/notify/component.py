"""The notify component: sends one message to a webhook if a run failed or was rejected."""

from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def notify(pipeline: str, pipeline_run: str, tracking_uri: str, status: PipelineTaskFinalStatus):
    """Send one notice to a webhook if the run failed or its gate rejected the version.

    Args:
        pipeline: Name of the pipeline.
        pipeline_run: Id of the run.
        tracking_uri: Address of the MLflow that has the verdict. Empty for the address in the step's environment.
        status: Final status of the pipeline's other steps, filled in by Kubeflow Pipelines.
    """
    from sidlsg.kubeflow.notices import notify as notify_step

    notify_step(pipeline=pipeline, run=pipeline_run, state=status.state or "", tracking_uri=tracking_uri)
