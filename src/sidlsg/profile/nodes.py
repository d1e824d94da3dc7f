"""What a profile says of training on several nodes, as inputs of the component `distil_nodes`."""

from __future__ import annotations

import json
from typing import Any

from sidlsg.profile.profile import Profile
from sidlsg.profile.quantity import seconds


def node_inputs(profile: Profile) -> dict[str, Any]:
    """All inputs that `distil_nodes` has beyond those of `distil`.

    The nodes get the share of the stage `distil`; the step that starts them and waits has that of `distil-nodes`.
    """
    share = profile.stages["distil"]
    settings = {
        "cpu": share.cpu,
        "memory": share.memory,
        "gpu_resource": share.gpu_type,
        "shm": share.shm,
        "node_selector": share.node_selector,
        "tolerations": [taint.model_dump(exclude_defaults=True) for taint in share.tolerations],
        "volumes": {volume.claim: volume.path for volume in share.volumes},
        "secrets": {secret: sorted(keys) for secret, keys in share.secrets.items()},
        "config_maps": {share.endpoints: list(share.endpoint_keys)} if share.endpoints else {},
        "priority": share.priority,
    }
    return {
        "nodes": share.nodes,
        "gpus_per_node": share.gpus,
        "image": profile.image("distil"),
        "handover": share.handover,
        "timeout_minutes": max(1, seconds(share.timeout) // 60),
        "queue": share.queue,
        "namespace": "",
        "node_settings": json.dumps(settings, sort_keys=True),
    }
