"""The component `distil_nodes`: a training on the nodes of a TrainJob, with plain values instead of artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.nodes.job_spec import pack
from sidlsg.kubeflow.nodes.launcher import distil_on_nodes
from sidlsg.kubeflow.nodes.settings import Nodes, read_settings
from sidlsg.runtime.progress import note
from sidlsg.runtime.provenance import running_image
from sidlsg.stages import timed
from sidlsg.stages.failures import recording_failure
from sidlsg.stages.training import training_of
from sidlsg.storage.records import Student


@timed
def distil_nodes_step(
    *, training: Mapping[str, Any], image: str, node_settings: str, setting: Mapping[str, Any], **nodes: Any
) -> Student | None:
    """Train on several nodes; None where a failure is recorded instead.

    Args:
        training: see `sidlsg.stages.training.training_of`.
        image: of the nodes, by digest; empty for the one that this step runs in.
        node_settings: JSON, see `read_settings`.
        setting: of a sweep; empty elsewhere.
        nodes: the other values of `Nodes`.
    """
    asked = training_of(**training)
    output = Path(asked.output)
    with recording_failure("distil", setting, output):
        bundle = pack(asked)
        where = Nodes(image=image or running_image(), settings=read_settings(node_settings), **nodes)
        return distil_on_nodes(bundle, output, where, note)
    return None
