"""The runtime and the rights that a TrainJob of the step `distil_nodes` needs are those that the manifests bring."""

from __future__ import annotations

from typing import Any

import pytest

from infra.cluster import Object, get, rendered
from infra.page import yours
from sidlsg.distil.supervisor import FINAL
from sidlsg.kubeflow.nodes.cluster import TRAIN_JOB
from sidlsg.kubeflow.nodes.manifest import NODE, POD_STAGE, manifest
from sidlsg.kubeflow.nodes.settings import RUNTIME, Nodes
from sidlsg.runtime.errors import StoppedError


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return rendered("team")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    nodes = Nodes(
        nodes=2,
        gpus_per_node=8,
        image=f"registry.example.com/sidlsg/sidlsg-train@sha256:{'1' * 64}",
        handover="s3://data/handover",
        timeout_minutes=60,
    )
    return manifest("x", "kubeflow", nodes, staging="s3://data/handover/x", spec_sha256="2" * 64, training="t")


def node(objects: list[Object]) -> Object:
    runtime = get(objects, "ClusterTrainingRuntime", RUNTIME, "")
    assert "torch" in runtime["spec"]["mlPolicy"]
    (found,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert found["name"] == NODE
    template: Object = found["template"]["spec"]["template"]
    return template


def test_the_runtime_is_the_one_that_jobs_ask_for(objects: list[Object], job: dict[str, Any]) -> None:
    assert job["spec"]["runtimeRef"] == {"apiGroup": TRAIN_JOB.group, "kind": "ClusterTrainingRuntime", "name": RUNTIME}
    template = node(objects)
    assert [container["name"] for container in template["spec"]["containers"]] == [NODE]
    assert template["metadata"]["labels"]["sidlsg.dev/stage"] == POD_STAGE


def test_a_jobs_patch_changes_volumes_and_adds_none_at_the_same_place(
    objects: list[Object], job: dict[str, Any]
) -> None:
    (patched,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    patch = patched["template"]["spec"]["template"]["spec"]
    own = node(objects)["spec"]
    at = {mount["mountPath"]: mount["name"] for mount in own["containers"][0]["volumeMounts"]}
    for mount in patch["containers"][0]["volumeMounts"]:
        assert at[mount["mountPath"]] == mount["name"]
    assert {volume["name"] for volume in patch["volumes"]} <= {volume["name"] for volume in own["volumes"]}


def test_what_a_job_refers_to_is_there(objects: list[Object], job: dict[str, Any]) -> None:
    for variable in job["spec"]["trainer"]["env"]:
        for field, reference in variable.get("valueFrom", {}).items():
            if field == "secretKeyRef":
                assert reference["key"] in yours()["Secret", reference["name"]].keys
            elif not reference.get("optional"):
                assert reference["key"] in get(objects, "ConfigMap", reference["name"], "kubeflow")["data"]


def test_the_step_may_do_what_it_does_and_no_more(objects: list[Object]) -> None:
    rights = {
        (group, resource): set(rule["verbs"])
        for rule in get(objects, "Role", "sidlsg-distil-nodes", "kubeflow")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rights == {
        (TRAIN_JOB.group, TRAIN_JOB.plural): {"create", "get", "list", "delete"},
        ("", "pods"): {"get", "list"},
        ("", "pods/log"): {"get", "list"},
    }


def test_nodes_that_were_lost_start_again_and_those_with_a_final_error_do_not(objects: list[Object]) -> None:
    spec = get(objects, "ClusterTrainingRuntime", RUNTIME, "")["spec"]["template"]["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == NODE
    # A node that was asked to end saved its state, and starts again.
    assert set(rule["onExitCodes"]["values"]) == FINAL - {StoppedError.exit_code}
    assert rule["action"] == "FailJob"
    # Kubernetes reads this policy only where the pod itself never starts a container again.
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["backoffLimit"] == 0
    assert spec["failurePolicy"]["maxRestarts"] > 0
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
