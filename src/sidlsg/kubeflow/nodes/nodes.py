"""What a profile says of training on several nodes, as inputs of the component `distil_nodes`."""

from __future__ import annotations

import json
from typing import Any

from sidlsg.kubeflow.profile import Profile, Stage
from sidlsg.kubeflow.quantity import seconds

ALWAYS = ("shm", "secrets", "config_maps")
"""Given even where a share has none: left out, they would be the nodes' own defaults."""


def node_inputs(profile: Profile) -> dict[str, Any]:
    """All inputs that `distil_nodes` has beyond those of `distil`.

    The nodes get the share of the stage `distil`; the step that starts them and waits has that of `distil-nodes`.
    """
    share = profile.stages["distil"]
    return {
        "nodes": share.nodes,
        "gpus_per_node": share.gpus,
        "image": profile.image("distil"),
        "handover": share.handover,
        "timeout_minutes": max(1, seconds(share.timeout) // 60),
        "queue": share.queue,
        "namespace": "",
        "node_settings": node_settings(share),
    }


def node_settings(share: Stage) -> str:
    """A share as `sidlsg.kubeflow.nodes.settings.NodeSettings` takes it, in JSON."""
    settings: dict[str, Any] = {
        "cpu": share.cpu,
        "cpu_limit": share.cpu_limit,
        "memory": share.memory,
        "gpu_resource": share.gpu_type,
        "shm": share.shm,
        "scratch": share.scratch,
        "node_selector": share.node_selector,
        "tolerations": [taint.model_dump(exclude_defaults=True) for taint in share.tolerations],
        "volumes": {volume.claim: volume.path for volume in share.volumes},
        "secrets": share.secrets,
        "config_maps": {share.endpoints: {key: key for key in share.endpoint_keys}} if share.endpoints else {},
        "environment": share.environment,
        "pull_secrets": share.pull_secrets,
        "labels": share.labels,
        "annotations": share.annotations,
        "priority": share.priority,
    }
    return json.dumps({name: value for name, value in settings.items() if value or name in ALWAYS}, sort_keys=True)
