"""The register component: a student becomes a version in the model registry."""

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
    """Register a student in MLflow. The same student gives the same version, however often it is registered.

    Args:
        student: The student, a diffusers folder with its Student record.
        teacher_model: The teacher's place, for the run's inputs in MLflow.
        tracking_uri: MLflow: the http(s) address of a server, or sqlite:///FILE. Empty for the one that the step's
            environment names.
        name: Name of the registered model.
        pipeline_run: Id of the pipeline run, for the version's tags.
        hourly_price: Price of the training's machine an hour, for the cost on the version. 0 for none.
        prices: Prices an hour by stage; that of distil comes before hourly_price. {} for none.
        account: The records, training log, interim scores and sample grids of the student, without its networks.
        setting: In a sweep, the setting's changes: a failure is handed on, and does not end the run. {} elsewhere.

    Returns:
        version: The ModelVersion record, as JSON; a failure where one is handed on.
        seconds: How long it took.
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
