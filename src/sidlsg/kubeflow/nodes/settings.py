"""The nodes of a TrainJob: how many, which image, what each one may use, and how long all of it may take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import Field, field_validator

from sidlsg.kubeflow.profile import Cpu, Profile, Resources, Size, SizeOrNone, Stage, seconds
from sidlsg.kubeflow.toml_forms import mistakes
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.store import S3

RUNTIME = "sidlsg-torch"
"""The ClusterTrainingRuntime that the project's manifests bring."""
Variables = dict[str, dict[str, str]]
"""By the name of a Secret or ConfigMap: environment variable to the key that holds it."""
S3_SECRET = {"sidlsg-s3": {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}}
MLFLOW_SECRET = {"sidlsg-mlflow": {name: name for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")}}
ENDPOINTS = {
    "sidlsg-endpoints": {name: name for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")}
}
_IMAGE = re.compile(r"\S+@sha256:[0-9a-f]{64}")


class NodeSettings(Resources):
    """One node of a TrainJob."""

    cpu: Cpu = "4"
    memory: Size = "32Gi"
    shm: SizeOrNone = "8Gi"
    scratch: SizeOrNone = ""
    """Empty for what the runtime gives."""
    gpu_resource: str = "nvidia.com/gpu"
    """The cluster's name of a GPU."""
    tolerations: tuple[Mapping[str, Any], ...] = Field(default=(), strict=False)
    """In Kubernetes' own form."""
    volumes: dict[str, str] = Field(default={})
    """Claims by name, and their mount paths: for checkpoints or a handover on a shared disk instead of S3."""
    secrets: Variables = S3_SECRET
    optional_secrets: Variables = MLFLOW_SECRET
    """Secrets that may be missing, or a key of them."""
    config_maps: Variables = ENDPOINTS
    """ConfigMaps; they and their keys may be missing."""
    runtime: str = RUNTIME
    """The ClusterTrainingRuntime."""
    queue_minutes: int = Field(default=7 * 24 * 60, ge=1)
    """Longest wait in the queue."""
    grace_seconds: int = Field(default=600, ge=1)
    """How long a node that is asked to end may take to save its state."""

    @field_validator("volumes")
    @classmethod
    def _absolute(cls, volumes: dict[str, str]) -> dict[str, str]:
        for claim, path in volumes.items():
            if not PurePosixPath(path).is_absolute():
                raise ValueError(f"volume {claim!r} is mounted at {path!r}; give an absolute path")
        return volumes


def read_settings(text: str) -> NodeSettings:
    """Read a JSON object such as `{"memory": "512Gi", "node_selector": {"gpu": "h100"}}`; `{}` or nothing for defaults.

    Raises:
        InputError: the text is not such an object, or a value cannot be used.
    """
    try:
        given = parse_json(text or "{}")
    except ValueError as error:
        raise InputError(f"node settings are not JSON ({error}); give an object such as {{}}") from error
    if not isinstance(given, dict):
        raise InputError(f"node settings are {given!r}; give an object such as {{}}")
    if found := mistakes(NodeSettings, given):
        raise InputError(f"node settings: {'; '.join(found)}")
    return NodeSettings.model_validate(given)


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
        """Check that all nodes and this step see the same content at a path or URI.

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
    """A share as `NodeSettings`, in JSON."""
    settings: dict[str, Any] = share.model_dump(include=set(Resources.model_fields)) | {
        "gpu_resource": share.gpu_type,
        "tolerations": [taint.model_dump(exclude_defaults=True) for taint in share.tolerations],
        "volumes": {volume.claim: volume.path for volume in share.volumes},
        "config_maps": {share.endpoints: {key: key for key in share.endpoint_keys}} if share.endpoints else {},
    }
    return json.dumps({name: value for name, value in settings.items() if value or name in ALWAYS}, sort_keys=True)
