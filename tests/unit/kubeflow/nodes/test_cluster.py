"""The client: nothing is made twice, what may be is asked again, and what is refused is explained."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from services.dripping import Dripping
from services.kubernetes_api import NAMESPACE, Api, RunningApi
from sidlsg.kubeflow.nodes.cluster import Cluster, ClusterError, ClusterTimeouts, Object
from sidlsg.runtime.errors import InputError
from unit.kubeflow.nodes.launch import SHORT

JOB: Object = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "TrainJob",
    "metadata": {"name": "distil-1", "labels": {"a": "b"}},
    "spec": {},
}


def job() -> Object:
    return {**JOB, "metadata": dict(JOB["metadata"])}


def test_the_kubeconfigs_namespace_is_ones_own(cluster: Cluster) -> None:
    assert cluster.namespace == cluster.own_namespace == NAMESPACE


def test_a_job_is_made_found_and_deleted(cluster: Cluster, api: Api) -> None:
    made = cluster.create(job())
    assert made["metadata"]["uid"]
    assert cluster.get("distil-1") == made
    assert [each["metadata"]["name"] for each in cluster.labelled("a", "b")] == ["distil-1"]
    assert cluster.labelled("a", "c") == []
    cluster.delete(made)
    while cluster.get("distil-1") is not None:
        pass
    cluster.delete(made)
    assert api.left() == []


def test_an_answer_that_was_lost_makes_no_second_job(cluster: Cluster, api: Api) -> None:
    api.faults = ["lost"]
    made = cluster.create(job())
    assert api.job()["metadata"]["uid"] == made["metadata"]["uid"]
    assert api.asked["POST", "trainjobs"] == 2


def test_a_successor_is_not_deleted(cluster: Cluster, api: Api) -> None:
    made = cluster.create(job())
    api.vanish("distil-1")
    api.add_job(job())
    cluster.delete(made)
    assert api.left() == ["distil-1"]
    assert "deletionTimestamp" not in api.job()["metadata"]


def test_retries_end(running_api: RunningApi, api: Api) -> None:
    cluster = Cluster(timeouts=replace(SHORT, total=0.3))
    assert running_api.kubeconfig.exists()
    api.faults = ["503"] * 1000
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"does not answer .read TrainJob x: code 503"):
        cluster.get("x")
    assert time.monotonic() - began < 5


def test_a_server_that_asks_to_wait_is_waited_for(cluster: Cluster, api: Api) -> None:
    api.faults = ["429", "429"]
    assert cluster.get("x") is None


def test_a_cluster_that_does_not_answer_is_reported_soon(
    running_api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("KUBECONFIG", str(running_api.configured(f"http://127.0.0.1:{port}")))
    with pytest.raises(ClusterError, match=r"does not answer \(list TrainJobs: NewConnectionError\)"):
        Cluster(timeouts=replace(SHORT, reach=0.2)).reach()


def test_an_endless_answer_ends_retries(running_api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    with Dripping("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{") as server:
        monkeypatch.setenv("KUBECONFIG", str(running_api.configured(server.address)))
        with pytest.raises(ClusterError, match=r"does not answer \(read TrainJob x: an answer that takes over"):
            Cluster(timeouts=replace(SHORT, total=0.3, whole=0.5)).get("x")


def test_a_wrong_token_is_reported(running_api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(running_api.configured(running_api.address, "wrong")))
    with pytest.raises(InputError, match="does not accept the credentials"):
        Cluster(timeouts=SHORT).reach()


def test_a_missing_cluster_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match="no cluster is known here"):
        Cluster()


def test_a_log_that_is_not_there_is_empty(cluster: Cluster) -> None:
    assert cluster.log("no-pod", "node") == ""


def test_retries_last_longer_than_a_control_planes_renewal() -> None:
    assert ClusterTimeouts().total >= 1800


def test_the_step_needs_no_torch() -> None:
    program = (
        "import sys, sidlsg.kubeflow.nodes.launcher, sidlsg.kubeflow.nodes.settings; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
