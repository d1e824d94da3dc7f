"""What the component `workflow-controller` makes of Kubeflow Pipelines' own ConfigMap, and what Argo makes of that.

The ConfigMap here has the keys of Kubeflow Pipelines 2.17.0's, and its workflow defaults; Argo's rules are those of
v4.0.5, which it brings, written again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.cluster import INFRA, kustomize, parsed
from sidlsg.components.cluster import pipeline_config, using
from sidlsg.kubeflow.profile import seconds
from sidlsg.kubeflow.profile_file import read_profile

COMPONENT = INFRA / "components" / "workflow-controller"
OTHERS = {
    "artifactRepository": "archiveLogs: true\ns3:\n  bucket: mlpipeline\n",
    "executor": "imagePullPolicy: Always\n",
}
KUBEFLOWS = {
    "spec": {
        "ttlStrategy": {"secondsAfterCompletion": 3600, "secondsAfterSuccess": 3600, "secondsAfterFailure": 3600},
        "templateDefaults": {"retryStrategy": {"limit": "2", "retryPolicy": "OnError"}},
    }
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data of the ConfigMap in Kubeflow Pipelines' kustomization with the component added to it."""
    folder = tmp_path_factory.mktemp("kubeflow")
    shutil.copytree(COMPONENT, folder / "component")
    meta = {"name": "workflow-controller-configmap"}
    text = {**OTHERS, "workflowDefaults": yaml.safe_dump(KUBEFLOWS)}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": text}
    (folder / "base").mkdir()
    (folder / "base" / "config.yaml").write_text(yaml.safe_dump(config))
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    base = {**head, "namespace": "kubeflow", "resources": ["config.yaml"]}
    (folder / "base" / "kustomization.yaml").write_text(yaml.safe_dump(base))
    top = {**head, "resources": ["base"], "components": ["component"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(top))
    (found,) = parsed(kustomize(folder))
    assert found["metadata"]["namespace"] == "kubeflow"
    result: dict[str, str] = found["data"]
    return result


@pytest.fixture(scope="module")
def spec(data: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(data["workflowDefaults"])["spec"]
    return found


def test_everything_else_in_the_config_map_stays(data: dict[str, str]) -> None:
    assert {name: text for name, text in data.items() if name != "workflowDefaults"} == OTHERS


def kept(ttl: dict[str, int], outcome: str) -> int:
    """How long Argo keeps a workflow that has ended so: the outcome's own time comes before that of all."""
    return ttl.get(f"secondsAfter{outcome}", ttl["secondsAfterCompletion"])


@pytest.mark.parametrize("outcome", ["Success", "Failure"])
@pytest.mark.parametrize("profile", sorted((INFRA / "profiles").glob("*.toml")), ids=lambda path: str(path.stem))
def test_a_run_is_kept_as_long_as_its_profile_says(spec: dict[str, Any], profile: Path, outcome: str) -> None:
    # What a compiled pipeline says itself comes before a default.
    chosen = read_profile(profile)
    with using(chosen):
        config = pipeline_config()
    own = {
        "secondsAfterCompletion": config.ttl_seconds_after_finished,
        "secondsAfterSuccess": config.ttl_seconds_after_success,
        "secondsAfterFailure": config.ttl_seconds_after_failure,
    }
    assert kept(spec["ttlStrategy"] | own, outcome) == seconds(chosen.run.ttl)
    assert kept(KUBEFLOWS["spec"]["ttlStrategy"] | own, outcome) == seconds(chosen.run.ttl)
    assert kept(spec["ttlStrategy"], outcome) == 7 * 24 * 3600


@pytest.mark.parametrize(
    ("status", "code", "retried"),
    [
        pytest.param("Error", "-1", True, id="the pod was deleted, or its node is gone"),
        pytest.param("Failed", "137", True, id="killed: memory, eviction"),
        pytest.param("Failed", "143", True, id="asked to end: drain"),
        pytest.param("Failed", "1", False, id="the step ended by itself, as the launcher tells it"),
        pytest.param("Failed", "2", False, id="an input"),
        pytest.param("Failed", "3", False, id="the gate"),
        pytest.param("Failed", "4", False, id="an alarm"),
        pytest.param("Failed", "-1", False, id="a DAG with a failed step"),
    ],
)
def test_what_was_killed_is_retried_and_what_ended_by_itself_is_not(
    spec: dict[str, Any], status: str, code: str, retried: bool
) -> None:
    strategy = spec["templateDefaults"]["retryStrategy"]
    assert strategy["retryPolicy"] == "Always" and strategy["limit"] == "2"
    # The few words of Argo's expressions that it uses are Python's, but for one.
    expression = strategy["expression"].replace("||", "or")
    last = SimpleNamespace(status=status, exitCode=code)
    assert eval(expression, {"lastRetry": last, "asInt": int}) is retried
