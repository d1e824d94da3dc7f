from __future__ import annotations

from typing import Any

import pytest

from services.kubernetes_api import Api, RunningApi, running
from sidlsg.kubeflow.nodes.cluster import Cluster
from sidlsg.kubeflow.nodes.manifest import manifest
from sidlsg.kubeflow.nodes.monitor import NodeLogs, state_of
from unit.kubeflow.nodes.launch import Launch


@pytest.fixture
def logs(launch: Launch, cluster: Cluster, api: Api) -> NodeLogs:
    job = manifest("distil-1", "team", launch.nodes, staging="/shared/h", spec_sha256="0" * 64, training="f" * 64)
    api.add_job(job)
    running(api)
    return NodeLogs(cluster, "distil-1", launch.reported.append)


def lines(launch: Launch) -> list[str]:
    return [line for line in launch.reported if " | " in line]


def test_each_line_is_reported_once(logs: NodeLogs, launch: Launch, api: Api) -> None:
    for number in range(3):
        api.say(0, f"line {number}")
        logs.poll()
        logs.poll()
    assert lines(launch) == [f"node 0 | line {number}" for number in range(3)]


def test_the_logs_of_other_nodes_are_reported_when_they_fail(logs: NodeLogs, launch: Launch, api: Api) -> None:
    api.say(1, *(f"line {number}" for number in range(100)))
    logs.poll()
    assert lines(launch) == []
    ended = {"name": "node", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    api.set_pod(1, "Failed", containerStatuses=[ended])
    logs.poll()
    logs.poll()
    assert lines(launch) == [f"node 1 | line {number}" for number in range(60, 100)]
    assert logs.failures == ["node 1 ended with exit code 137 (OOMKilled)"]


def test_what_a_pod_waits_for_is_reported_when_it_changes(logs: NodeLogs, launch: Launch, api: Api) -> None:
    waits = {"name": "node", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    api.set_pod(1, "Pending", containerStatuses=[waits])
    for _ in range(3):
        logs.poll()
    waiting = [line for line in launch.reported if line.startswith("node 1")]
    assert waiting == ["node 1 (distil-1-node-0-1-abcde): waits (ImagePullBackOff)"]


def test_a_cluster_that_does_not_answer_is_asked_again(
    logs: NodeLogs, launch: Launch, api: Api, running_api: RunningApi
) -> None:
    api.faults = ["500"] * 3
    api.say(0, "a line")
    logs.poll()
    assert lines(launch) == ["node 0 | a line"]
    assert running_api.address in str(running_api.address)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({}, "pending"),
        ({"phase": "Running"}, "running"),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
                ],
            },
            "waits to be scheduled (Unschedulable: 0/3 nodes)",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "failed (Evicted: low on memory)"),
        (
            {"phase": "Succeeded", "containerStatuses": [{"name": "node", "state": {"terminated": {"exitCode": 0}}}]},
            "ended with exit code 0",
        ),
    ],
)
def test_a_pods_state_in_words(status: dict[str, Any], message: str) -> None:
    assert state_of({"metadata": {"name": "p"}, "status": status}) == message
