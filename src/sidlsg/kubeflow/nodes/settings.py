"""What the nodes of a TrainJob are: how many, which image, what each one may use, and how long all of it may take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sidlsg.kubeflow.profile import Profile, Stage, seconds
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.store import S3

RUNTIME = "sidlsg-torch"
"""The ClusterTrainingRuntime that the project's manifests bring."""
Variables = Mapping[str, Mapping[str, str]]
"""By the name of a Secret or ConfigMap: environment variable to the key that holds it."""
S3_SECRET = {"sidlsg-s3": {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}}
MLFLOW_SECRET = {"sidlsg-mlflow": {name: name for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")}}
ENDPOINTS = {
    "sidlsg-endpoints": {name: name for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")}
}
_IMAGE = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_MOST_QUEUED_MINUTES = 7 * 24 * 60


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """One node: what it asks for, where it may run, what is mounted and set in it. All of it may be left out."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    cpu: str = "4"
    """CPUs of a node, requested; and at most, where `cpu_limit` says no other."""
    cpu_limit: str = ""
    memory: str = "32Gi"
    """Requested and at most."""
    gpu_resource: str = "nvidia.com/gpu"
    """What the cluster calls a GPU."""
    shm: str = "8Gi"
    """Memory of a node behind `/dev/shm`, through which its processes talk; empty for the container's own."""
    scratch: str = ""
    """Disk of a node behind `/tmp`, where inputs go; empty for what the runtime gives."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """As Kubernetes has them."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Claims by name, and where each is mounted: for checkpoints or a handover on a shared disk instead of S3."""
    secrets: Variables = field(default_factory=lambda: dict(S3_SECRET))
    optional_secrets: Variables = field(default_factory=lambda: dict(MLFLOW_SECRET))
    """Secrets that may be missing, or a key of them."""
    config_maps: Variables = field(default_factory=lambda: dict(ENDPOINTS))
    """ConfigMaps; they and their keys may be missing."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables; nothing secret, for anybody who may see the job sees them."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets for the image's registry."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the pods, beside those that say whose they are."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    priority: str = ""
    """Kueue's priority class; empty for none."""
    runtime: str = RUNTIME
    """The ClusterTrainingRuntime to run in."""
    queue_minutes: int = _MOST_QUEUED_MINUTES
    """How long to wait in the queue at most."""
    grace_seconds: int = 600
    """How long a node that is asked to end may take to save its state."""

    def __post_init__(self) -> None:
        for name in ("queue_minutes", "grace_seconds"):
            if getattr(self, name) < 1:
                raise InputError(f"node settings: {name} is {getattr(self, name)}; give 1 or more")
        for claim, path in self.volumes.items():
            if not PurePosixPath(path).is_absolute():
                raise InputError(f"node settings: volume {claim!r} is mounted at {path!r}; give an absolute path")


def read_settings(text: str) -> NodeSettings:
    """Read a JSON object such as `{"memory": "512Gi", "node_selector": {"gpu": "h100"}}`; `{}` or nothing for defaults.

    Raises:
        InputError: it is no such object, or a value cannot be used.
    """
    try:
        given = parse_json(text or "{}")
    except ValueError as error:
        raise InputError(f"node settings are not JSON ({error}); give an object such as {{}}") from error
    try:
        return TypeAdapter(NodeSettings).validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        names = ", ".join(NodeSettings.__dataclass_fields__)
        raise InputError(f"node settings: {where}: {first['msg']}; an object may have: {names}") from error


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """All nodes of one TrainJob."""

    nodes: int
    gpus_per_node: int
    """Processes of a node, one a GPU; 0 for one process without."""
    image: str
    """By digest; it must hold this package."""
    handover: str
    """Where inputs go to the nodes and the student comes back: `s3://BUCKET/PREFIX`, or a folder on a shared volume."""
    timeout_minutes: int
    """How long the nodes may run; what a queue takes is not counted."""
    queue: str = ""
    """Kueue's LocalQueue; empty for none."""
    namespace: str = ""
    """Where the job goes; empty for the namespace of the step."""
    settings: NodeSettings = field(default_factory=NodeSettings)

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("gpus_per_node", 0), ("timeout_minutes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not _IMAGE.fullmatch(self.image):
            raise InputError(
                f"the nodes' image is {self.image!r}, and only a digest says which code runs; "
                "give NAME@sha256:<64 hex digits>"
            )
        self.require_shared("handover", self.handover)

    @property
    def processes(self) -> int:
        """Of the whole job."""
        return self.nodes * max(1, self.gpus_per_node)

    def require_shared(self, what: str, place: str) -> None:
        """Check that all nodes and this step see the same thing at a place.

        Raises:
            InputError: it is on the disk of one machine.
        """
        mounts = self.settings.volumes.values()
        if not place.startswith(S3) and not any(PurePosixPath(place).is_relative_to(mount) for mount in mounts):
            raise InputError(
                f"{what} is {place!r}, which only one machine sees; give {S3}BUCKET/PREFIX, or a folder on a volume "
                'that the node settings mount: {"volumes": {"CLAIM": "/shared"}}'
            )


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
