"""The training step of a pipeline: one pod, or a step that starts several nodes, depending on the active profile."""

from typing import Any

from sidlsg.components.cluster import active_profile
from sidlsg.components.distil.component import distil
from sidlsg.components.distil_nodes.component import distil_nodes
from sidlsg.kubeflow.nodes.settings import node_inputs


def train(**inputs: Any) -> Any:
    """Create the step that trains a student.

    Args:
        inputs: inputs of the component `distil`.
    """
    profile = active_profile()
    if profile is None or profile.stages["distil"].nodes == 1:
        return distil(**inputs)
    return distil_nodes(**inputs, **node_inputs(profile))
