from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.kubernetes_api import NAMESPACE, PODS, Api
from sidlsg.kubeflow.nodes import cluster as cluster_module
from sidlsg.kubeflow.nodes.cluster import Cluster
from sidlsg.kubeflow.nodes.launcher import owners_of, run_of
from unit.kubeflow.nodes.launch import SHORT

WORKFLOW = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "u-1", "controller": True}


@pytest.fixture
def pod(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The step's own, in the cluster and in the environment."""
    metadata = {"name": "step-1", "namespace": NAMESPACE, "uid": "u-2", "labels": {"pipeline/runid": "run-7"}}
    api.objects[PODS, NAMESPACE, "step-1"] = {"metadata": metadata | {"ownerReferences": [WORKFLOW]}}
    (tmp_path / "namespace").write_text(f"{NAMESPACE}\n")
    monkeypatch.setattr(cluster_module, "_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("HOSTNAME", "step-1")
    return {"metadata": metadata | {"ownerReferences": [WORKFLOW]}}


def test_a_steps_job_belongs_to_its_workflow_and_run(cluster: Cluster, pod: dict[str, Any]) -> None:
    found = cluster.own_pod()
    assert found is not None and found["metadata"]["name"] == pod["metadata"]["name"]
    (owner,) = owners_of(found, cluster)
    assert (owner["kind"], owner["uid"]) == ("Workflow", "u-1")
    assert (owner["controller"], owner["blockOwnerDeletion"]) == (False, False)
    assert run_of(found) == "run-7"


def test_without_a_workflow_it_belongs_to_the_pod(cluster: Cluster, pod: dict[str, Any]) -> None:
    del pod["metadata"]["ownerReferences"]
    (owner,) = owners_of(pod, cluster)
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "step-1", "u-2")


def test_there_is_no_owner_across_namespaces(cluster: Cluster, pod: dict[str, Any]) -> None:
    assert owners_of(pod, Cluster("elsewhere", SHORT)) == []
    assert owners_of(None, cluster) == []


def test_outside_of_a_cluster_there_is_no_pod(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_NAMESPACE", tmp_path / "none")
    assert cluster.own_pod() is None
    assert run_of(None) == ""


def test_a_pod_that_may_not_be_read_is_done_without(cluster: Cluster, pod: dict[str, Any], api: Api) -> None:
    assert pod
    api.refusals["GET", "pods"] = (403, 'User "x" cannot get resource "pods"')
    assert cluster.own_pod() is None


def test_the_environments_run_comes_first(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", "run-8")
    assert run_of(pod) == "run-8"
