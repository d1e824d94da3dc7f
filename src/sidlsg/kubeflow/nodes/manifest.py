"""The TrainJob object of Kubeflow Trainer v2, as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sidlsg.kubeflow.nodes.cluster import TRAIN_JOB, Object
from sidlsg.kubeflow.nodes.settings import Nodes, NodeSettings
from sidlsg.kubeflow.profile import RUN_LABEL
from sidlsg.runtime.provenance import GPUS_VARIABLE, IMAGE_VARIABLE, RUN_VARIABLE

MANAGER = "sidlsg.dev/pipeline"
"""The author of the runtime's patches."""
NODE = "node"
"""The runtime's name of the nodes' replicated job, and of the container in their pods."""
TRAINING = "sidlsg.dev/training"
"""The label with the digest of what a job's checkpoints depend on."""
SPEC = "sidlsg.dev/spec-sha256"
"""The annotation with the digest of the spec as submitted; a cluster adds to the spec itself."""
JOB_STAGE, POD_STAGE = "distil-nodes", "distil-nodes-worker"
PASSED_ON = ("SIDLSG_METRICS_PORT", "SIDLSG_PUSHGATEWAY", "MLFLOW_RUN_ID")
"""Variables of the step that the nodes get, too."""
_MARGIN_S = 60
"""Of the time that a pod has to end: for work after the state is saved."""
_LABEL = 63


def manifest(
    name: str,
    namespace: str,
    nodes: Nodes,
    *,
    staging: str,
    spec_sha256: str,
    training: str,
    run: str = "",
    owners: list[Object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Object:
    """The object of the job `name`, whose nodes read the job spec with the digest `spec_sha256` in the staging area.

    `training` is `JobSpec.training`, `run` the pipeline run (empty for none), and `environment` that of this step.
    """
    settings = nodes.settings
    labels = {"app.kubernetes.io/part-of": "sidlsg"} | ({RUN_LABEL: run} if run else {})
    own = labels | {"sidlsg.dev/stage": JOB_STAGE, TRAINING: training[:_LABEL]}
    if nodes.queue:
        own["kueue.x-k8s.io/queue-name"] = nodes.queue
    if settings.priority:
        own["kueue.x-k8s.io/priority-class"] = settings.priority
    spec = {
        "runtimeRef": {"apiGroup": TRAIN_JOB.group, "kind": "ClusterTrainingRuntime", "name": settings.runtime},
        "activeDeadlineSeconds": nodes.timeout_minutes * 60,
        "trainer": {
            "image": nodes.image,
            "command": ["sidlsg"],
            "args": [
                *("distil-node", staging, "--sha256", spec_sha256),
                *("--shutdown-timeout", str(settings.grace_seconds)),
            ],
            "numNodes": nodes.nodes,
            "numProcPerNode": max(1, nodes.gpus_per_node),
            "resourcesPerNode": _resources(nodes),
            "env": _environment(nodes, run, environment or {}),
        },
        "runtimePatches": [_patch(settings, labels | {"sidlsg.dev/stage": POD_STAGE})],
    }
    metadata: Object = {
        "name": name,
        "namespace": namespace,
        "labels": own,
        "annotations": {SPEC: hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()},
    }
    if owners:
        metadata["ownerReferences"] = owners
    version = f"{TRAIN_JOB.group}/{TRAIN_JOB.version}"
    return {"apiVersion": version, "kind": TRAIN_JOB.name, "metadata": metadata, "spec": spec}


def _resources(nodes: Nodes) -> Object:
    settings = nodes.settings
    requests = {"cpu": settings.cpu, "memory": settings.memory}
    if nodes.gpus_per_node:
        requests[settings.gpu_resource] = str(nodes.gpus_per_node)
    limits = requests | {"cpu": settings.cpu_limit or settings.cpu}
    if settings.scratch:
        limits["ephemeral-storage"] = settings.scratch
    return {"requests": requests, "limits": limits}


def _environment(nodes: Nodes, run: str, environment: Mapping[str, str]) -> list[Object]:
    # A runtime's patch may set no variable of this container, and a Trainer has no `envFrom`: each key by itself.
    settings = nodes.settings
    values = {GPUS_VARIABLE: str(nodes.gpus_per_node), IMAGE_VARIABLE: nodes.image}
    values |= {RUN_VARIABLE: run} if run else {}
    values |= {name: environment[name] for name in PASSED_ON if environment.get(name)}
    values |= settings.environment
    entries: dict[str, Object] = {name: {"name": name, "value": value} for name, value in values.items()}
    for kind, sources, optional in (
        ("configMapKeyRef", settings.config_maps, True),
        ("secretKeyRef", settings.optional_secrets, True),
        ("secretKeyRef", settings.secrets, False),
    ):
        for name, keys in sources.items():
            for variable, key in keys.items():
                source = {"name": name, "key": key} | ({"optional": True} if optional else {})
                entries[variable] = {"name": variable, "valueFrom": {kind: source}}
    return list(entries.values())


def _patch(settings: NodeSettings, labels: dict[str, str]) -> Object:
    # By name: where a volume is mounted, and what it is.
    disks: dict[str, tuple[str, Object]] = {}
    if settings.shm:
        disks["shm"] = "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}}
    if settings.scratch:
        disks["tmp"] = "/tmp", {"emptyDir": {"sizeLimit": settings.scratch}}
    for number, (claim, path) in enumerate(settings.volumes.items()):
        disks[f"shared-{number}"] = path, {"persistentVolumeClaim": {"claimName": claim}}
    pod: Object = {"terminationGracePeriodSeconds": settings.grace_seconds + _MARGIN_S}
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        pod["tolerations"] = [dict(each) for each in settings.tolerations]
    if disks:
        pod["volumes"] = [{"name": name} | volume for name, (_, volume) in disks.items()]
        mounts = [{"name": name, "mountPath": path} for name, (path, _) in disks.items()]
        pod["containers"] = [{"name": NODE, "volumeMounts": mounts}]
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    metadata: Object = {"labels": dict(settings.labels) | labels}
    if settings.annotations:
        metadata["annotations"] = dict(settings.annotations)
    template = {"metadata": metadata, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
