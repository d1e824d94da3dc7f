"""The TrainJob object: what Kubeflow Trainer v2 is given, as one JSON object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sidlsg.kubeflow.nodes.settings import Nodes, NodeSettings
from sidlsg.kubeflow.profile import RUN_LABEL
from sidlsg.runtime.provenance import GPUS_VARIABLE, IMAGE_VARIABLE, RUN_VARIABLE

GROUP, VERSION, PLURAL, KIND = "trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"
MANAGER = "sidlsg.dev/pipeline"
"""Who wrote the runtime's patches."""
NODE = "node"
"""What the runtime calls the replicated job of the nodes, and the container in their pods."""
TRAINING = "sidlsg.dev/training"
"""The label that says which checkpoints a job writes."""
SPEC = "sidlsg.dev/spec-sha256"
"""The annotation that says what a job was asked for, whatever a cluster has added to it since."""
JOB_STAGE, POD_STAGE = "distil-nodes", "distil-nodes-worker"
PASSED_ON = ("SIDLSG_METRICS_PORT", "SIDLSG_PUSHGATEWAY", "MLFLOW_RUN_ID")
"""Variables that the nodes have as the step has them."""
_KEPT_S = 60
"""Of the time that a pod has to end: for what comes after the state is saved."""
_LABEL = 63


def manifest(
    name: str,
    namespace: str,
    nodes: Nodes,
    *,
    handover: str,
    order_sha256: str,
    training: str,
    run: str = "",
    owners: list[dict[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole object.

    Args:
        name: of the job.
        namespace: where it goes.
        nodes: what it runs on.
        handover: this job's own place in the handover.
        order_sha256: digest of the order there.
        training: which checkpoints it writes, see `Order.training`.
        run: the pipeline run, empty for none.
        owners: whose end ends the job.
        environment: of this step, of which some variables are passed on.
    """
    labels = {"app.kubernetes.io/part-of": "sidlsg"} | ({RUN_LABEL: run} if run else {})
    own = labels | {"sidlsg.dev/stage": JOB_STAGE, TRAINING: training[:_LABEL]}
    if nodes.queue:
        own["kueue.x-k8s.io/queue-name"] = nodes.queue
    if nodes.settings.priority:
        own["kueue.x-k8s.io/priority-class"] = nodes.settings.priority
    spec = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": nodes.settings.runtime},
        "activeDeadlineSeconds": nodes.timeout_minutes * 60,
        "trainer": {
            "image": nodes.image,
            "command": ["sidlsg"],
            "args": [
                *("distil-node", handover, "--sha256", order_sha256),
                *("--shutdown-timeout", str(nodes.settings.grace_seconds)),
            ],
            "numNodes": nodes.nodes,
            "numProcPerNode": max(1, nodes.gpus_per_node),
            "resourcesPerNode": _resources(nodes),
            "env": _environment(nodes, run, environment or {}),
        },
        "runtimePatches": [_patch(nodes.settings, labels | {"sidlsg.dev/stage": POD_STAGE})],
    }
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": own,
        "annotations": {SPEC: hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()},
    }
    if owners:
        metadata["ownerReferences"] = owners
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": spec}


def _resources(nodes: Nodes) -> dict[str, Any]:
    settings = nodes.settings
    wanted = {"cpu": settings.cpu, "memory": settings.memory}
    if nodes.gpus_per_node:
        wanted[settings.gpu_resource] = str(nodes.gpus_per_node)
    limits = wanted | {"cpu": settings.cpu_limit or settings.cpu}
    if settings.scratch:
        limits["ephemeral-storage"] = settings.scratch
    return {"requests": wanted, "limits": limits}


def _environment(nodes: Nodes, run: str, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    # A runtime's patch may set no variable of this container, and a Trainer knows no `envFrom`: each key by itself.
    values = {GPUS_VARIABLE: str(nodes.gpus_per_node), IMAGE_VARIABLE: nodes.image}
    values |= {RUN_VARIABLE: run} if run else {}
    values |= {name: environment[name] for name in PASSED_ON if environment.get(name)}
    values |= nodes.settings.environment
    entries: dict[str, dict[str, Any]] = {name: {"name": name, "value": value} for name, value in values.items()}
    settings = nodes.settings
    for kind, named, optional in (
        ("configMapKeyRef", settings.config_maps, True),
        ("secretKeyRef", settings.optional_secrets, True),
        ("secretKeyRef", settings.secrets, False),
    ):
        for name, keys in named.items():
            for variable, key in keys.items():
                source = {"name": name, "key": key} | ({"optional": True} if optional else {})
                entries[variable] = {"name": variable, "valueFrom": {kind: source}}
    return list(entries.values())


def _patch(settings: NodeSettings, labels: dict[str, str]) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if settings.shm:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    if settings.scratch:
        volumes.append({"name": "tmp", "emptyDir": {"sizeLimit": settings.scratch}})
        mounts.append({"name": "tmp", "mountPath": "/tmp"})
    for number, (claim, path) in enumerate(settings.volumes.items()):
        volumes.append({"name": f"shared-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"shared-{number}", "mountPath": path})
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": settings.grace_seconds + _KEPT_S}
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        pod["tolerations"] = [dict(each) for each in settings.tolerations]
    if volumes:
        pod["volumes"] = volumes
        pod["containers"] = [{"name": NODE, "volumeMounts": mounts}]
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    metadata: dict[str, Any] = {"labels": dict(settings.labels) | labels}
    if settings.annotations:
        metadata["annotations"] = dict(settings.annotations)
    template = {"metadata": metadata, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
