"""What a cluster is given: held to the models of the Trainer's own API, and to what this project's pods must have."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from sidlsg.kubeflow.nodes.manifest import manifest
from sidlsg.kubeflow.nodes.settings import Nodes, NodeSettings, read_settings
from unit.kubeflow.nodes.launch import IMAGE, make_nodes

DIGEST = "0" * 64
FULL = {
    "cpu": "16",
    "memory": "512Gi",
    "shm": "64Gi",
    "node_selector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "volumes": {"shared-disk": "/shared"},
    "priority": "high",
    "optional_secrets": {},
    "config_maps": {"sidlsg-endpoints": {"AWS_ENDPOINT_URL_S3": "AWS_ENDPOINT_URL_S3"}},
    "cpu_limit": "32",
    "scratch": "500Gi",
    "environment": {"NCCL_DEBUG": "WARN"},
    "pull_secrets": ["registry"],
    "labels": {"team": "images", "sidlsg.dev/stage": "another"},
    "annotations": {"note": "none"},
}


def made(nodes: Nodes, **values: Any) -> dict[str, Any]:
    usual = {"staging": "s3://b/handover/distil-1", "spec_sha256": DIGEST, "training": "f" * 64}
    return manifest("distil-1", "team", nodes, **(usual | values))


def full() -> dict[str, Any]:
    nodes = Nodes(
        nodes=2,
        gpus_per_node=8,
        image=IMAGE,
        handover="s3://b/handover",
        timeout_minutes=60,
        queue="gpus",
        settings=read_settings(json.dumps(FULL)),
    )
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "u"}
    environment = {"SIDLSG_METRICS_PORT": "9464", "HOME": "/tmp"}
    return made(nodes, run="run-1", owners=[owner], environment=environment)


@pytest.mark.parametrize("bare", [True, False])
def test_the_trainers_own_models_know_every_field(bare: bool, tmp_path: Path) -> None:
    job = made(make_nodes(tmp_path, settings=NodeSettings(volumes={"s": str(tmp_path)}))) if bare else full()
    read = TrainerV1alpha1TrainJob.from_dict(job)
    assert read is not None
    # What the models do not know they leave out.
    assert read.to_dict() == job


def test_its_name_is_a_label() -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", full()["metadata"]["name"])


def test_it_asks_for_what_was_given() -> None:
    job = full()
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 8, IMAGE)
    asked = {"cpu": "16", "memory": "512Gi", "nvidia.com/gpu": "8"}
    assert trainer["resourcesPerNode"]["requests"] == asked
    assert trainer["resourcesPerNode"]["limits"] == asked | {"cpu": "32", "ephemeral-storage": "500Gi"}
    assert trainer["command"] == ["sidlsg"]
    assert trainer["args"][:4] == ["distil-node", "s3://b/handover/distil-1", "--sha256", DIGEST]
    assert trainer["args"][4:] == ["--shutdown-timeout", "600"]
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    assert job["spec"]["runtimeRef"]["name"] == "sidlsg-torch"


def test_pods_and_job_have_different_labels_and_belong_to_their_run() -> None:
    job = full()
    labels = job["metadata"]["labels"]
    assert labels["sidlsg.dev/stage"] == "distil-nodes"
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus"
    assert labels["kueue.x-k8s.io/priority-class"] == "high"
    pod = pod_of(job)
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/part-of": "sidlsg",
        "sidlsg.dev/stage": "distil-nodes-worker",
        "pipeline/runid": "run-1",
        "team": "images",
    }
    assert job["metadata"]["ownerReferences"][0]["kind"] == "Workflow"
    assert all(len(value) <= 63 for value in labels.values())


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    found: dict[str, Any] = replicated["template"]["spec"]["template"]
    return found


def test_a_pod_has_its_place_and_its_disks_and_time_to_save() -> None:
    pod = pod_of(full())["spec"]
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert pod["terminationGracePeriodSeconds"] > 600
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    (container,) = pod["containers"]
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/dev/shm", "/tmp", "/shared"}
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_no_secret_has_a_value_and_each_variable_comes_once() -> None:
    entries = full()["spec"]["trainer"]["env"]
    by_name = {entry["name"]: entry for entry in entries}
    assert len(by_name) == len(entries)
    key = by_name["AWS_SECRET_ACCESS_KEY"]
    assert "value" not in key and key["valueFrom"]["secretKeyRef"]["name"] == "sidlsg-s3"
    assert by_name["NCCL_DEBUG"]["value"] == "WARN"
    assert by_name["SIDLSG_GPUS"]["value"] == "8"
    assert by_name["SIDLSG_PIPELINE_RUN"]["value"] == "run-1"
    assert by_name["SIDLSG_METRICS_PORT"]["value"] == "9464"
    assert "HOME" not in by_name


def test_the_same_request_has_the_same_digest() -> None:
    one, other = full(), full()
    assert one == other
    nodes = Nodes(nodes=2, gpus_per_node=8, image=IMAGE, handover="s3://b/h", timeout_minutes=60)
    asked = [made(each)["metadata"]["annotations"] for each in (nodes, replace(nodes, timeout_minutes=61))]
    assert asked[0] != asked[1]
