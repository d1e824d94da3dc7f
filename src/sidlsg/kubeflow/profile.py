"""A profile: images by digest, and each stage's share of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sidlsg.kubeflow.toml_forms import Form
from sidlsg.runtime.provenance import (
    CHECKPOINTS_VARIABLE,
    GPUS_VARIABLE,
    IMAGE_VARIABLE,
    RESTART_WAIT_VARIABLE,
    RESTARTS_VARIABLE,
    RUN_VARIABLE,
)

_STAGES = {
    "curate": ("resolve", "curate", "curate-plan", "curate-part", "curate-join", "curate-finish"),
    "train": ("encode", "distil", "distil-nodes"),
    "evaluate": (
        *("register", "evaluate", "gate", "promote", "report"),
        *("find", "plan", "conclude", "compare", "notify"),
    ),
}
"""By image, a folder of `images/`: the stages that run in it, which are components' names with hyphens."""
IMAGES: Mapping[str, str] = {stage: image for image, stages in _STAGES.items() for stage in stages}
"""By stage."""

STAGE_LABEL = "sidlsg.dev/stage"
RUN_LABEL = "pipeline/runid"
"""The label of Kubeflow Pipelines on each pod of a run."""
PART_LABEL = "app.kubernetes.io/part-of"
PART = "sidlsg"
OWN_LABELS = (PART_LABEL, STAGE_LABEL, RUN_LABEL, "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
OWN_VARIABLES = (
    CHECKPOINTS_VARIABLE,
    GPUS_VARIABLE,
    IMAGE_VARIABLE,
    RUN_VARIABLE,
    RESTARTS_VARIABLE,
    RESTART_WAIT_VARIABLE,
)
"""Set by the compiled pipeline itself."""

_LABEL = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_TIME = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def quantity(text: str) -> float:
    """A number of processors such as 500m, or a size in bytes such as 64Gi."""
    from kubernetes.utils.quantity import parse_quantity  # Kubernetes' client takes half a second

    return float(parse_quantity(text))


def seconds(text: str) -> int:
    """A time in whole seconds.

    Raises:
        ValueError: it is not a number with s, m, h or d, is 0, or is longer than Kubernetes can count.
    """
    found = _TIME.fullmatch(text)
    value = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < value < 2**31:
        raise ValueError('give a time above 0 with its unit, such as "90s", "30m", "12h" or "7d"')
    return value


def _like(pattern: str, advice: str) -> Callable[[str], str]:
    expression = re.compile(pattern)

    def check(text: str) -> str:
        if not expression.fullmatch(text):
            raise ValueError(advice)
        return text

    return check


def _time(text: str) -> str:
    seconds(text)
    return text


def _or_none(check: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: check(text) if text else text


_cpu = _like(r"[1-9][0-9]*m|(?=.*[1-9])[0-9]+(\.[0-9]+)?", 'give a number of processors, such as "4" or "500m"')
_size = _like(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|M|G|T)", 'give a size, such as "512Mi" or "64Gi"')
_name = _like(
    r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?",
    "give a name as Kubernetes has it: small letters, digits, hyphens and dots, at most 63",
)
_by_digest = _like(
    r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}",
    "a tag can move, and results are kept by the image's name; give NAME@sha256:<64 hex digits>",
)


def _variables(names: dict[str, str]) -> dict[str, str]:
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is not a valid name of an environment variable")
        if name in OWN_VARIABLES:
            raise ValueError(f"{name} is set by the pipeline itself; leave it out")
    return names


def _keys(keys: dict[str, str]) -> dict[str, str]:
    if not keys or not all(keys.values()):
        raise ValueError('give each variable the key that holds it: { VARIABLE = "KEY" }')
    return _variables(keys)


def _open(environment: dict[str, str]) -> dict[str, str]:
    for name in environment:
        if re.search("SECRET|PASSWORD|TOKEN|ACCESS_KEY", name, re.IGNORECASE):
            raise ValueError(f"{name} looks secret, and the compiled pipeline would show it; give it by secrets")
    return _variables(environment)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"{key!r} = {value!r} is not a valid Kubernetes label")
    return labels


def _free_labels(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if key in OWN_LABELS:
            raise ValueError(f"{key} is set by the pipeline itself; leave it out")
    return _labels(labels)


Cpu = Annotated[str, AfterValidator(_cpu)]
CpuOrNone = Annotated[str, AfterValidator(_or_none(_cpu))]
Size = Annotated[str, AfterValidator(_size)]
SizeOrNone = Annotated[str, AfterValidator(_or_none(_size))]
Time = Annotated[str, AfterValidator(_time)]
Image = Annotated[str, AfterValidator(_by_digest)]
Name = Annotated[str, AfterValidator(_or_none(_name))]
Keys = Annotated[dict[str, str], AfterValidator(_keys)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]


class Toleration(Form):
    """A taint of nodes that a stage's pods tolerate."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    @model_validator(mode="after")
    def _check(self) -> Toleration:
        if self.operator == "Equal" and not self.key:
            raise ValueError('operator "Equal" needs a key')
        if self.operator == "Exists" and self.value:
            raise ValueError('operator "Exists" takes no value')
        return self


class Volume(Form):
    """A PersistentVolumeClaim that a stage's pods mount."""

    claim: Annotated[Name, Field(min_length=1)]
    path: Annotated[str, Field(pattern=r"^/[^\s:]+$")]


class Resources(Form):
    """What a pod requests, where it may run, and its environment: a step's pod, or a node's of a TrainJob."""

    cpu: Cpu
    """Processors requested; also the limit, unless `cpu_limit` names another."""
    cpu_limit: CpuOrNone = ""
    memory: Size
    """Request and limit."""
    shm: SizeOrNone = ""
    """Shared memory between the processes of a pod, at /dev/shm. It counts as the pod's memory."""
    scratch: SizeOrNone
    """Disk space at /tmp, on the node, which ends with the pod; nothing is reserved for it."""
    node_selector: Labels = Field(default={})
    secrets: dict[Name, Keys] = Field(default={})
    """By Secret: environment variable to the key that holds it. Never the value itself."""
    environment: dict[str, str] = Field(default={})
    """Further environment variables. Nothing secret: whoever sees the pipeline or the pod sees them."""
    pull_secrets: tuple[Name, ...] = Field(default=(), strict=False)
    """Secrets for the registry of the images."""
    labels: Labels = Field(default={})
    annotations: dict[str, str] = Field(default={})
    priority: Name = ""
    """Kueue's WorkloadPriorityClass; empty for none."""


class Stage(Resources):
    """The share of a cluster that the pods of one stage get."""

    cpu: Cpu = "1"
    memory: Size = "2Gi"
    scratch: Size = "10Gi"
    scratch_class: Name = ""
    """StorageClass of a volume for /tmp instead, made for the pod. The images' user 10001 must be able to write it."""
    environment: Annotated[dict[str, str], AfterValidator(_open)] = Field(default={})
    labels: Annotated[dict[str, str], AfterValidator(_free_labels)] = Field(default={})
    gpus: int = Field(default=0, ge=0)
    """Of each pod. The step checks for them at its start."""
    gpu_type: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    """The cluster's name of the resource."""
    nodes: int = Field(default=1, ge=1)
    """Only distil: pods that train together. More than one are a TrainJob, which the step distil-nodes starts."""
    handover: str = ""
    """Where these nodes get their inputs and leave the student: s3://BUCKET/PREFIX, or a folder on a shared volume."""
    tolerations: tuple[Toleration, ...] = Field(default=(), strict=False)
    timeout: Time = "1d"
    """Longest time of one attempt."""
    retries: int = Field(default=2, ge=0, le=100)
    """New pods for one that Kubernetes deleted; not for one that failed. They resume from persisted state."""
    retry_wait: Time = "1m"
    """Before each of them."""
    restarts: int = Field(default=10, ge=0, le=1000)
    """Only distil: restarts of a lost training inside its pod, in a row without a new checkpoint."""
    restart_wait: Time = "5s"
    """Before the first of them; doubled before each further one, up to five minutes."""
    queue: Name = ""
    """Kueue's LocalQueue that admits the pods; empty for none."""
    endpoints: Name = ""
    """ConfigMap with the addresses of MLflow and S3; empty for none."""
    endpoint_keys: tuple[str, ...] = Field(default=("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL_S3"), strict=False)
    """Its keys that become environment variables of the same names."""
    volumes: tuple[Volume, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _check(self) -> Stage:
        if self.cpu_limit and quantity(self.cpu_limit) < quantity(self.cpu):
            raise ValueError(f"cpu_limit {self.cpu_limit} is below cpu {self.cpu}")
        if self.shm and quantity(self.shm) >= quantity(self.memory):
            raise ValueError(f"shm {self.shm} counts as memory, of which there is {self.memory}; give more of that")
        if self.endpoints and not self.endpoint_keys:
            raise ValueError("endpoints needs endpoint_keys")
        paths = ["/tmp", "/dev/shm", *(volume.path.rstrip("/") for volume in self.volumes)]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise ValueError(f"two volumes at {twice[0]}; /tmp and /dev/shm are taken")
        given = [*self.environment, *(variable for keys in self.secrets.values() for variable in keys)]
        given += self.endpoint_keys if self.endpoints else ()
        if both := [name for name in given if given.count(name) > 1]:
            raise ValueError(f"{both[0]} is given twice")
        return self


class Whole(Form):
    """Limits of a run as a whole."""

    ttl: Time = "7d"
    """How long the pods of an ended run stay. Kubeflow Pipelines' own record of it stays longer."""
    deadline: Time = "7d"
    """Longest time of a run, including waits in queues."""
    checkpoints: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/\S*)?|/\S+)?$")] = ""
    """Where steps keep unfinished work: s3://BUCKET/PREFIX, or a folder on a volume. Empty for one that ends with the
    pod."""


class Images(Form):
    """By the names of the folders in `images/`."""

    curate: Image
    train: Image
    evaluate: Image


class Profile(Form):
    """A profile's file, with each stage's table filled from `defaults`."""

    images: Images
    run: Whole = Whole()
    stages: Mapping[str, Stage]

    def image(self, stage: str) -> str:
        """The image of a stage, by digest."""
        return str(getattr(self.images, IMAGES[stage]))
