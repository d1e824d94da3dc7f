"""The conclude component: a sweep in which a setting failed fails, after its page is written."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def conclude(failures: str):
    """Fail where a setting of a sweep failed: Kubeflow Pipelines keeps no results of a step that fails.

    Args:
        failures: The settings that failed, as JSON.
    """
    from sidlsg.stages.failures import conclude_step

    conclude_step(failures)
