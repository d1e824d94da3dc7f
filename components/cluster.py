"""Cluster settings of pipeline steps: labels always, and resources from the active profile."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineConfig

from sidlsg.components.images import IMAGE, LOCAL_IMAGE
from sidlsg.kubeflow.profile import (
    PART,
    PART_LABEL,
    RUN_LABEL,
    STAGE_LABEL,
    Profile,
    Stage,
    Whole,
    quantity,
    seconds,
)
from sidlsg.runtime.provenance import (
    CHECKPOINTS_VARIABLE,
    CURATE_VARIABLES,
    GPUS_VARIABLE,
    IMAGE_VARIABLE,
    NOTICE_VARIABLE,
    RESTART_WAIT_VARIABLE,
    RESTARTS_VARIABLE,
    RUN_VARIABLE,
)

_ACTIVE: ContextVar[Profile | None] = ContextVar("profile", default=None)
SHARED_MEMORY = "/dev/shm"
TRAINING, LAUNCHER, CURATE = "distil", "distil-nodes", "curate"
CURATE_MEMORY = 0.75
"""Share of a pod's memory for curation's workers."""
USER = 10001
"""User id that the container images run as; numeric, for namespaces that refuse root."""


@contextmanager
def using(profile: Profile | None) -> Iterator[None]:
    """Give the steps of pipelines that are traced in this context their resources from a profile."""
    token = _ACTIVE.set(profile)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def active_profile() -> Profile | None:
    """The profile of the pipeline being traced, or None."""
    return _ACTIVE.get()


def pipeline_config() -> PipelineConfig:
    """The active profile's settings for a whole run."""
    profile = _ACTIVE.get()
    if profile is None:
        return PipelineConfig()
    ttl = seconds(profile.run.ttl)
    return PipelineConfig(
        # The settings for success and failure override the first, and the server's defaults for them are an hour.
        ttl_seconds_after_finished=ttl,
        ttl_seconds_after_success=ttl,
        ttl_seconds_after_failure=ttl,
        active_deadline_seconds=seconds(profile.run.deadline),
    )


def on_cluster(*tasks: Any) -> None:
    """Label steps, pass them their run's id, and give them their resources from the active profile.

    Args:
        tasks: steps of a pipeline that is being traced.
    """
    profile = _ACTIVE.get()
    for task in tasks:
        stage = task.component_spec.name
        kubernetes.add_pod_label(task, PART_LABEL, PART)
        kubernetes.add_pod_label(task, STAGE_LABEL, stage)
        kubernetes.use_field_path_as_env(task, RUN_VARIABLE, f"metadata.labels['{RUN_LABEL}']")
        if profile is not None:
            _share(task, profile.stages[stage], profile.image(stage), profile.run)
        elif IMAGE != LOCAL_IMAGE:
            task.set_env_variable(IMAGE_VARIABLE, IMAGE)
            _restart(task, Stage())


def _share(task: Any, share: Stage, image: str, run: Whole) -> None:
    task.set_container_image(image)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    own = {IMAGE_VARIABLE: image, CHECKPOINTS_VARIABLE: run.checkpoints}
    if task.component_spec.name == CURATE:
        _, workers, memory_gb = CURATE_VARIABLES
        # The rest of the memory is for the parent process of the workers.
        own[workers] = str(max(1, int(quantity(share.cpu))))
        own[memory_gb] = f"{quantity(share.memory) * CURATE_MEMORY / 1e9:.1f}"
    for name, value in {**{name: value for name, value in own.items() if value}, **share.environment}.items():
        task.set_env_variable(name, value)
    task.set_cpu_request(share.cpu).set_cpu_limit(share.cpu_limit or share.cpu)
    task.set_memory_request(share.memory).set_memory_limit(share.memory)
    if share.gpus:
        task.set_accelerator_type(share.gpu_type).set_accelerator_limit(share.gpus)
        task.set_env_variable(GPUS_VARIABLE, str(share.gpus))
    _restart(task, share)
    if share.retries:
        # Argo retries pods that were deleted. The last value is not the longest pause between retries, but the time
        # after which there are no more.
        task.set_retry(share.retries, f"{seconds(share.retry_wait)}s", 1.0, f"{seconds(run.deadline)}s")
    kubernetes.set_timeout(task, seconds(share.timeout))
    if share.scratch_class:
        kubernetes.add_ephemeral_volume(
            task, "scratch", "/tmp", ["ReadWriteOnce"], share.scratch, storage_class_name=share.scratch_class
        )
    else:
        kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit=share.scratch)
    if share.shm:
        kubernetes.empty_dir_mount(task, "shared-memory", SHARED_MEMORY, medium="Memory", size_limit=share.shm)
    for key, value in share.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for taint in share.tolerations:
        kubernetes.add_toleration(
            task, key=taint.key or None, operator=taint.operator, value=taint.value or None, effect=taint.effect or None
        )
    # Kueue admits the nodes of a TrainJob, not the step that starts them.
    queue = {} if task.component_spec.name == LAUNCHER else _queue_labels(share)
    for key, value in {**share.labels, **queue}.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in share.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)
    for secret, keys in share.secrets.items():
        for variable, key in keys.items():
            # A pod whose Secret is missing never starts; the notice URL is optional, so that the step runs without it.
            kubernetes.use_secret_as_env(task, secret, {key: variable}, optional=variable == NOTICE_VARIABLE)
    if share.endpoints:
        kubernetes.use_config_map_as_env(task, share.endpoints, {key: key for key in share.endpoint_keys})
    if share.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(share.pull_secrets))
    for volume in share.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.path)


def _restart(task: Any, share: Stage) -> None:
    """Let training restart inside its pod: Kubeflow Pipelines does not retry a step that failed."""
    if task.component_spec.name == TRAINING:
        task.set_env_variable(RESTARTS_VARIABLE, str(share.restarts))
        task.set_env_variable(RESTART_WAIT_VARIABLE, str(seconds(share.restart_wait)))


def _queue_labels(share: Stage) -> dict[str, str]:
    labels = {"kueue.x-k8s.io/queue-name": share.queue, "kueue.x-k8s.io/priority-class": share.priority}
    return {key: value for key, value in labels.items() if value}
