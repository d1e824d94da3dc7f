"""A pipeline as a cluster runs it: its steps as one group, followed by the step notify even if the group failed.

The group is a pipeline inside the pipeline. `dsl.ExitHandler` compiles to the same for the server, but kfp cannot
return a pipeline's outputs from inside it.
"""

import inspect
from typing import Any

from kfp import dsl

from sidlsg.components.cluster import on_cluster
from sidlsg.components.notify.component import notify


def noticed(steps: Any, config: dsl.PipelineConfig) -> Any:
    """The same pipeline, which also sends a notice if the run failed or its version was rejected.

    Args:
        steps: a pipeline with the parameter `tracking_uri` that returns a NamedTuple.
        config: settings of the whole run.
    """
    signature = inspect.signature(steps.pipeline_func)

    def whole(*values: Any) -> Any:
        given = dict(zip(signature.parameters, values, strict=True))
        group = steps(**given)
        sent = (
            notify(
                pipeline=steps.name,
                pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                tracking_uri=given["tracking_uri"],
            )
            .after(group)
            .ignore_upstream_failure()
            .set_caching_options(False)
        )
        on_cluster(sent)
        outputs = signature.return_annotation
        return outputs(**{name: group.outputs[name] for name in outputs._fields})

    whole.__signature__ = signature  # type: ignore[attr-defined]
    whole.__doc__ = steps.pipeline_func.__doc__
    return dsl.pipeline(name=steps.name, pipeline_config=config)(whole)
