"""The find component: finds a registered version by its number or an alias."""

from typing import NamedTuple

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def find(
    tracking_uri: str,
    name: str,
    which: str,
) -> NamedTuple("Outputs", [("version", str), ("seconds", float)]):
    """Find a registered student by its version's number or an alias.

    Args:
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE. Empty for the address in the step's environment.
        name: Name of the registered model.
        which: Number of a version, or an alias such as champion.

    Returns:
        version: The ModelVersion record, as JSON.
        seconds: Duration of the step in seconds.
    """
    from sidlsg.stages.register import find_step

    record, seconds = find_step(tracking_uri, name, which)
    return record.to_json(), seconds
