"""The `distil` stage as a pipeline step, with settings from the step's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidlsg.runtime.overrides import changes_text
from sidlsg.runtime.progress import note
from sidlsg.runtime.provenance import checkpoints_place
from sidlsg.stages import timed
from sidlsg.stages.distil_processes import PodTraining, train_in_pod
from sidlsg.stages.failures import recording_failure, without_attempt
from sidlsg.storage.records import Student


@timed
def distil_step(setting: Mapping[str, Any], changes: Mapping[str, Any], **inputs: Any) -> Student | None:
    """Train in this pod; None if a failure is recorded instead. See `training_of` for the inputs."""
    training = training_of(changes, **inputs)
    with recording_failure("distil", setting, Path(training.output)):
        return train_in_pod(training, note)
    return None


def training_of(changes: Mapping[str, Any], **inputs: Any) -> PodTraining:
    """The training of a step: its recipe changes and other inputs, and the settings in its environment."""
    return PodTraining(
        changes=changes_text(without_attempt(changes)),
        checkpoints=checkpoints_place(),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", ""),
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", "sidlsg"),
        **inputs,
    )
