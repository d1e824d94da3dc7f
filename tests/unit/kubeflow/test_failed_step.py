"""The failed step, asked of an emulated Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.kubernetes_api import NAMESPACE, PODS, Api, RunningApi
from sidlsg.kubeflow import notices as module
from sidlsg.kubeflow.nodes.cluster import ClusterTimeouts
from sidlsg.kubeflow.notices import failed_step

TRACEBACK = (
    "Traceback (most recent call last):",
    "  File ...",
    "sidlsg.runtime.errors.InputError: no such teacher; give one",
)
LAUNCHER = ("F0101 main.go:57] failed to execute component: exit status 2",)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    with RunningApi(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(module, "_TIMEOUTS", ClusterTimeouts(total=0.2, reach=0.2, first=0.01))
        yield running


def pod(api: Api, step: str, phase: str, *lines: str, run: str = "r1", second: int = 0, **ended: Any) -> None:
    name = f"{step}-{run}"
    labels = {"pipeline/runid": run, "sidlsg.dev/stage": step}
    state = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": f"2026-01-01T00:00:{second:02}Z"} | ended}
    api.objects[PODS, NAMESPACE, name] = {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}
    statuses = [{"name": "wait", "state": {"running": {}}}, {"name": "main", "state": state}]
    api.objects[PODS, NAMESPACE, name].patch({"status": {"phase": phase, "containerStatuses": statuses}})
    api.logs[name] = [f"2026-01-01T00:00:00Z {line}" for line in lines]


def test_the_error_is_the_last_one_that_the_step_raised(running: RunningApi) -> None:
    def put(api: Api) -> None:
        pod(api, "curate", "Succeeded")
        pod(api, "encode", "Failed", *TRACEBACK, *LAUNCHER)
        pod(api, "evaluate", "Failed", "ValueError: another run's", run="r2", second=9)

    running.do(put)
    assert failed_step("r1") == ("encode", "InputError: no such teacher; give one")


def test_of_several_failed_pods_the_last_one_counts_and_a_killed_one_says_how(running: RunningApi) -> None:
    def put(api: Api) -> None:
        pod(api, "encode", "Failed", "ValueError: retried", second=1)
        pod(api, "distil", "Failed", "iteration 5", second=2, exitCode=137, reason="OOMKilled")

    running.do(put)
    assert failed_step("r1") == ("distil", "OOMKilled, exit code 137")


def test_where_nothing_can_be_found_out_it_says_so(running: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed_step("r1") == ("", "no pod of the run has the reason: see the run's page")
    running.api.faults = ["500"] * 99
    step, error = failed_step("r1")
    assert (step, error[:22]) == ("", "the step is not known:")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert "no cluster is known here" in failed_step("r1")[1]
