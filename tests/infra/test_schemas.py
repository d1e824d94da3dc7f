"""Every object is what its kind's schema says, in three versions of Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from kubeflow_trainer_api import models as trainer

from infra.cluster import CONFIGURATIONS, INFRA, Object, get, kustomize, name_of, parsed, pods, rendered
from infra.schemas import METADATA, SPECS

VERSIONS = ("1.33", "1.35", "1.37")


def unique(objects: list[Object]) -> list[Object]:
    return list({json.dumps(one, sort_keys=True): one for one in objects}.values())


@pytest.fixture(scope="module")
def every() -> list[Object]:
    """Each different object of all configurations, once."""
    found = [one for name in CONFIGURATIONS for one in rendered(name)]
    return unique(found + parsed(kustomize(INFRA / "restore")))


@pytest.fixture(scope="module", autouse=True)
def schemas_are_read_once() -> Iterator[None]:
    """Not anew for each object: a version's are some megabytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


def is_others(one: Object) -> bool:
    return (one["apiVersion"], one["kind"]) in SPECS


def problem(one: Object, version: str) -> str:
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{name_of(one)}: {error.message}"
    return ""


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_kinds_are_valid(version: str, every: list[Object]) -> None:
    own = [one for one in every if not is_others(one)]
    assert len(own) > 80
    assert [found for one in own if (found := problem(one, version))] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pods_inside_kinds_of_others_are_valid(version: str, every: list[Object]) -> None:
    inside = [
        pod for pod in pods(every) if pod.owner.startswith(("RayCluster", "ClusterTrainingRuntime", "InferenceService"))
    ]
    assert len(inside) >= 4
    for pod in inside:
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": pod.labels}, "spec": pod.spec}
        assert problem(made, version) == ""


def others_problem(one: Object) -> str:
    """What the schema of a kind of others finds."""
    schema = SPECS[one["apiVersion"], one["kind"]]
    try:
        jsonschema.validate(one["metadata"], METADATA)
        if schema is not None:
            rest = {key: value for key, value in one.items() if key not in ("apiVersion", "kind", "metadata")}
            bare = one["kind"] == "WorkloadPriorityClass"
            unknown = set() if bare else set(rest) - {"spec"}
            jsonschema.validate(rest if bare else rest.get("spec", {}), schema)
            return f"unknown: {unknown}" if unknown else ""
    except jsonschema.ValidationError as error:
        return error.message
    model: Any = trainer.TrainerV1alpha1ClusterTrainingRuntime.from_dict(one)
    # What the model does not know is lost on the way.
    return "" if json.loads(model.to_json()) == one else f"not as it was: {lost(one, json.loads(model.to_json()))}"


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Where two values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [found for key in keys for found in lost(before.get(key), after.get(key), f"{place}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            found for n, (a, b) in enumerate(zip(before, after, strict=True)) for found in lost(a, b, f"{place}.{n}")
        ]
    return [] if before == after else [f"{place}: {before!r} became {after!r}"]


def test_kinds_of_others_are_as_their_schemas_say(every: list[Object]) -> None:
    others = [one for one in every if is_others(one)]
    assert {(one["apiVersion"], one["kind"]) for one in others} == set(SPECS)
    assert [f"{name_of(one)}: {found}" for one in others if (found := others_problem(one))] == []


def test_what_is_misspelt_is_found() -> None:
    objects = rendered("local+all")
    deployment = get(objects, "Deployment", "mlflow")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullpolicy"] = "Always"
    for version in VERSIONS:
        assert "imagePullpolicy" in problem(deployment, version)
    rules = get(objects, "PrometheusRule", "sidlsg")
    rules["spec"]["groups"][0]["rules"][0]["expression"] = "1"
    assert "expression" in others_problem(rules)
    queue = get(objects, "ClusterQueue", "sidlsg", "")
    queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = 64
    assert "64" in others_problem(queue)
    service = get(objects, "InferenceService", "champion", "sidlsg-serving")
    service["spec"]["predictor"]["canaryTrafficPercent"] = "10"
    assert "'10' is not of type 'integer'" in others_problem(service)
    service["spec"]["predictor"] |= {"canaryTrafficPercent": 10, "storageURI": "s3://serving/students"}
    assert "storageURI" in others_problem(service)
    runtime = get(objects, "ClusterTrainingRuntime", "sidlsg-torch", "")
    runtime["spec"]["mlPolicy"]["numNode"] = 2
    assert "numNode" in others_problem(runtime)
