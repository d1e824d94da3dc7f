"""The register component: registers a student as a version in the model registry."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    student: Input[Model],
    teacher_model: Input[Model],
    tracking_uri: str,
    name: str,
    pipeline_run: str,
    hourly_price: float,
    prices: dict,
    account: Output[Artifact],
    setting: dict = {},  # noqa: B006 - only read
) -> NamedTuple("Outputs", [("version", str), ("seconds", float)]):
    """Register a student in MLflow. Registering the same student again returns the same version.

    Args:
        student: The student: a diffusers folder with its Student record.
        teacher_model: The teacher's URI, logged with the run's inputs in MLflow.
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE. Empty for the address in the step's environment.
        name: Name of the registered model.
        pipeline_run: Id of the pipeline run, for the version's tags.
        hourly_price: Hourly price of the training machine, for the cost recorded on the version. 0 for none.
        prices: Hourly prices by stage; the price of distil overrides hourly_price. {} for none.
        account: The student's records, training log, interim scores and sample grids, without its networks.
        setting: In a sweep, the setting's changes; a failure is recorded and does not end the run. {} otherwise.

    Returns:
        version: The ModelVersion record, as JSON; in a sweep, the record of a failure instead.
        seconds: Duration of the step in seconds.
    """
    from pathlib import Path

    from sidlsg.stages.register import register_step

    record, seconds = register_step(
        student=Path(student.path),
        teacher_model=Path(teacher_model.path),
        tracking_uri=tracking_uri,
        name=name,
        pipeline_run=pipeline_run,
        hourly_price=hourly_price,
        prices=prices,
        account=Path(account.path),
        setting=setting,
    )
    return record.to_json(), seconds
