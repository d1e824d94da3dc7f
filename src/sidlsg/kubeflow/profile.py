"""A profile: images by digest, and each stage's share of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sidlsg.runtime.provenance import (
    CHECKPOINTS_VARIABLE,
    GPUS_VARIABLE,
    IMAGE_VARIABLE,
    RESTART_WAIT_VARIABLE,
    RESTARTS_VARIABLE,
    RUN_VARIABLE,
)

_CPU = re.compile(r"[1-9][0-9]*m|[0-9]+(\.[0-9]+)?")
_SIZE = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|M|G|T)")
_TIME = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 10**6, "G": 10**9, "T": 10**12}
_LARGEST = 2**31 - 1


def _cpu(text: str) -> str:
    if not _CPU.fullmatch(text) or not processors(text):
        raise ValueError('give a number of processors, such as "4" or "500m"')
    return text


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise ValueError('give a size, such as "512Mi" or "64Gi"')
    return text


def _time(text: str) -> str:
    seconds(text)
    return text


def _or_none(check: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: check(text) if text else text


def processors(text: str) -> float:
    """A number of processors, such as 4 or 500m."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def size(text: str) -> float:
    """A size in bytes."""
    return float(text.rstrip("KMGTi")) * _UNITS[text.lstrip("0123456789")]


def seconds(text: str) -> int:
    """A time in whole seconds.

    Raises:
        ValueError: it is not a number with s, m, h or d, is 0, or is longer than Kubernetes can count.
    """
    found = _TIME.fullmatch(text)
    value = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < value <= _LARGEST:
        raise ValueError('give a time above 0 with its unit, such as "90s", "30m", "12h" or "7d"')
    return value


Cpu = Annotated[str, AfterValidator(_cpu)]
Size = Annotated[str, AfterValidator(_size)]
Time = Annotated[str, AfterValidator(_time)]
CpuOrNone = Annotated[str, AfterValidator(_or_none(_cpu))]
SizeOrNone = Annotated[str, AfterValidator(_or_none(_size))]


CURATE, TRAIN, EVALUATE = "curate", "train", "evaluate"

IMAGES: Mapping[str, str] = {
    "resolve": CURATE,
    "curate": CURATE,
    "curate-plan": CURATE,
    "curate-part": CURATE,
    "curate-join": CURATE,
    "curate-finish": CURATE,
    "encode": TRAIN,
    "distil": TRAIN,
    "distil-nodes": TRAIN,
    "register": EVALUATE,
    "evaluate": EVALUATE,
    "gate": EVALUATE,
    "promote": EVALUATE,
    "report": EVALUATE,
    "find": EVALUATE,
    "plan": EVALUATE,
    "conclude": EVALUATE,
    "compare": EVALUATE,
    "notify": EVALUATE,
}
"""By stage: the name of a component, with hyphens. The images are those of `images/`."""

STAGE_LABEL = "sidlsg.dev/stage"
RUN_LABEL = "pipeline/runid"
"""The label of Kubeflow Pipelines on each pod of a run."""
PART_LABEL = "app.kubernetes.io/part-of"
PART = "sidlsg"


_BY_DIGEST = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
OWN_LABELS = (PART_LABEL, STAGE_LABEL, RUN_LABEL, "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
OWN_VARIABLES = (
    CHECKPOINTS_VARIABLE,
    GPUS_VARIABLE,
    IMAGE_VARIABLE,
    RUN_VARIABLE,
    RESTARTS_VARIABLE,
    RESTART_WAIT_VARIABLE,
)
"""What the compiled pipeline itself says."""
_SECRET = re.compile(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY", re.IGNORECASE)
_OWN_PATHS = ("/tmp", "/dev/shm")


def _by_digest(image: str) -> str:
    if not _BY_DIGEST.fullmatch(image):
        raise ValueError("a tag can move, and results are kept by the image's name; give NAME@sha256:<64 hex digits>")
    return image


def _name(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError("give a name as Kubernetes has it: small letters, digits, hyphens and dots, at most 63")
    return text


def _variables(names: dict[str, str]) -> dict[str, str]:
    for name in names:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an environment variable")
        if name in OWN_VARIABLES:
            raise ValueError(f"{name} is set by the pipeline itself; leave it out")
    return names


def _keys(keys: dict[str, str]) -> dict[str, str]:
    if not keys or not all(keys.values()):
        raise ValueError('give each variable the key that holds it: { VARIABLE = "KEY" }')
    return _variables(keys)


def _open(environment: dict[str, str]) -> dict[str, str]:
    for name in environment:
        if _SECRET.search(name):
            raise ValueError(f"{name} looks secret, and this would stand in the compiled pipeline; give it by secrets")
    return _variables(environment)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if key in OWN_LABELS:
            raise ValueError(f"{key} is set by the pipeline itself; leave it out")
    return _node_labels(labels)


def _node_labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"{key!r} = {value!r} is no label as Kubernetes has it")
    return labels


Image = Annotated[str, AfterValidator(_by_digest)]
Name = Annotated[str, AfterValidator(_name)]
Keys = Annotated[dict[str, str], AfterValidator(_keys)]
Environment = Annotated[dict[str, str], AfterValidator(_open)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
NodeLabels = Annotated[dict[str, str], AfterValidator(_node_labels)]


class ProfileTable(BaseModel):
    """A table of the file: no key beside those that are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Toleration(ProfileTable):
    """A taint of nodes that a stage's pods may run in spite of."""

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


class Volume(ProfileTable):
    """A claim of persistent storage that a stage's pods mount."""

    claim: Annotated[Name, Field(min_length=1)]
    path: Annotated[str, Field(pattern=r"^/[^\s:]+$")]


class Stage(ProfileTable):
    """What the pods of one stage ask for, and what they get from the cluster."""

    cpu: Cpu = "1"
    """Processors, asked for; also the limit, where `cpu_limit` names no other."""
    cpu_limit: CpuOrNone = ""
    memory: Size = "2Gi"
    """Asked for, and the limit."""
    gpus: int = Field(default=0, ge=0)
    """Of each pod. The step looks for them at its start."""
    gpu_type: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    """The cluster's name of the resource."""
    nodes: int = Field(default=1, ge=1)
    """Pods that train together, of distil alone. More than one takes a TrainJob, which the step distil-nodes starts."""
    handover: str = ""
    """Where these nodes get their inputs and leave the student: s3://BUCKET/PREFIX, or a folder on a volume of all."""
    node_selector: NodeLabels = {}
    tolerations: tuple[Toleration, ...] = Field(default=(), strict=False)
    shm: SizeOrNone = ""
    """Shared memory between the processes of a pod, at /dev/shm. It counts as the pod's memory."""
    scratch: Size = "10Gi"
    """Disk space at /tmp, which is the pod's own and goes with it: the node's, of which nothing is set aside."""
    scratch_class: Name = ""
    """StorageClass of a volume for it instead, made for the pod. The images' user 10001 must be able to write there."""
    timeout: Time = "1d"
    """Most time of one try."""
    retries: int = Field(default=2, ge=0, le=100)
    """New pods for one that Kubernetes deleted; not for one that failed. They resume from persisted state."""
    retry_wait: Time = "1m"
    """Before each of them."""
    restarts: int = Field(default=10, ge=0, le=1000)
    """Of distil alone: restarts of a lost training inside its pod, in a row without a new checkpoint."""
    restart_wait: Time = "5s"
    """Before the first of them; doubled before each further one, up to five minutes."""
    queue: Name = ""
    """Kueue's LocalQueue that admits the pods. Empty for none."""
    priority: Name = ""
    """Kueue's WorkloadPriorityClass. Empty for none."""
    endpoints: Name = ""
    """ConfigMap with the addresses of MLflow and S3. Empty for none."""
    endpoint_keys: tuple[str, ...] = Field(default=("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL_S3"), strict=False)
    """Its keys that become environment variables of the same names."""
    secrets: dict[Name, Keys] = {}
    """By Secret: environment variable to the key that holds it. Never the value itself."""
    pull_secrets: tuple[Name, ...] = Field(default=(), strict=False)
    """Secrets for the registry of the images."""
    volumes: tuple[Volume, ...] = Field(default=(), strict=False)
    labels: Labels = {}
    annotations: dict[str, str] = {}
    environment: Environment = {}
    """Further environment variables. Nothing secret: they are in the compiled pipeline."""

    @model_validator(mode="after")
    def _check(self) -> Stage:
        if self.cpu_limit and processors(self.cpu_limit) < processors(self.cpu):
            raise ValueError(f"cpu_limit {self.cpu_limit} is below cpu {self.cpu}")
        if self.shm and size(self.shm) >= size(self.memory):
            raise ValueError(f"shm {self.shm} counts as memory, of which there is {self.memory}; give more of that")
        if self.endpoints and not self.endpoint_keys:
            raise ValueError("endpoints needs endpoint_keys")
        paths = [*_OWN_PATHS, *(volume.path.rstrip("/") for volume in self.volumes)]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise ValueError(f"two volumes at {twice[0]}; /tmp and /dev/shm are taken")
        given = [*self.environment, *(variable for keys in self.secrets.values() for variable in keys)]
        given += self.endpoint_keys if self.endpoints else ()
        if both := [name for name in given if given.count(name) > 1]:
            raise ValueError(f"{both[0]} is given twice")
        return self


class Whole(ProfileTable):
    """Of a run as a whole."""

    ttl: Time = "7d"
    """How long the pods of a run stay that ended well or badly. What Kubeflow Pipelines tells of it stays longer."""
    deadline: Time = "7d"
    """Most time of a run, waiting for a place included."""
    checkpoints: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/\S*)?|/\S+)?$")] = ""
    """Where steps keep unfinished work: s3://BUCKET/PREFIX, or a folder on a volume. Empty for one that goes with the
    pod."""


class Images(ProfileTable):
    """By the names of the folders in `images/`."""

    curate: Image
    train: Image
    evaluate: Image


class Profile(ProfileTable):
    """A profile's file, with each stage's table filled from `defaults`."""

    images: Images
    run: Whole = Whole()
    stages: Mapping[str, Stage]

    def image(self, stage: str) -> str:
        """The image of a stage, by digest."""
        return str(getattr(self.images, IMAGES[stage]))
