"""A cluster, a step that starts a job in it, and what a node hands over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.kubernetes_api import Api, RunningApi
from sidlsg.kubeflow.nodes.cluster import Cluster
from sidlsg.kubeflow.nodes.staging import Staging
from unit.kubeflow.nodes.launch import SHORT, Launch, make_bundle, make_nodes


@pytest.fixture
def running_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    """A cluster that the environment leads to."""
    with RunningApi(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        for name in ("SIDLSG_PIPELINE_RUN", "KUBERNETES_SERVICE_HOST"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.fixture
def api(running_api: RunningApi) -> Api:
    """What it holds. Tests look at it, or set it up, while nobody asks."""
    return running_api.api


@pytest.fixture
def cluster(running_api: RunningApi) -> Cluster:
    """A client of it, with little patience."""
    assert running_api.kubeconfig.exists()
    return Cluster(timeouts=SHORT)


@pytest.fixture
def launch(tiny_student: Path, tmp_path: Path, cluster: Cluster) -> Launch:
    """A step for the student that all tests share."""
    return Launch(make_bundle(tiny_student, tmp_path), tmp_path, cluster, make_nodes(tmp_path))


@pytest.fixture
def given(tiny_student: Path) -> Callable[[Api], None]:
    """A step of the controller: the leading node hands the student over."""

    def step(api: Api) -> None:
        Staging(api.job()["spec"]["trainer"]["args"][1], create=False).upload_student(tiny_student)

    return step
