"""Who owns a step's job: what owns the step's pod, such as its workflow, so that both go together."""

from __future__ import annotations

import os
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, Object
from sidlsg.kubeflow.stages import RUN_LABEL
from sidlsg.runtime.provenance import RUN_VARIABLE


def run_of(pod: Object | None) -> str:
    """The pipeline run that this step belongs to; empty outside of one."""
    labels = (pod or {}).get("metadata", {}).get("labels", {})
    return os.environ.get(RUN_VARIABLE) or str(labels.get(RUN_LABEL, ""))


def owners_of(pod: Object | None, cluster: Cluster) -> list[dict[str, Any]]:
    """References for the job: to the pod's controller, else to the pod.

    A step that is tried again runs in another pod, and its job goes on: so the workflow comes first. None across
    namespaces, where Kubernetes allows no owner.
    """
    if pod is None or cluster.namespace != cluster.own_namespace:
        return []
    metadata = pod["metadata"]
    above = [each for each in metadata.get("ownerReferences", []) if each.get("controller")]
    owner = above[0] if above else {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    reference = {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
    # Only one owner controls; and to block its deletion would take a right more.
    return [reference | {"controller": False, "blockOwnerDeletion": False}]
