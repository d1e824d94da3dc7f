"""A profile's share of a cluster for `distil`, as the settings of a TrainJob's nodes."""

from __future__ import annotations

import json
from typing import Any

from sidlsg.profile.profile import Stage


def node_settings(share: Stage) -> str:
    """What the component `distil_nodes` takes as `node_settings`; the rest of a share it has inputs of its own for.

    Args:
        share: of the stage `distil`.
    """
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


ALWAYS = ("shm", "secrets", "config_maps")
"""Empty here, they mean none, where the nodes' own defaults are others."""
