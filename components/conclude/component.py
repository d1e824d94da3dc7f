"""The conclude component: fails a sweep in which a setting failed, after the sweep's page is written."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def conclude(failures: str):
    """Fail the run if a setting of the sweep failed, after the sweep's page has been written.

    Args:
        failures: The failed settings, as JSON.
    """
    from sidlsg.stages.failures import conclude_step

    conclude_step(failures)
