"""How Kubeflow Pipelines' server finds a step's earlier result, and runs of compiled pipelines that go by it.

After `backend/src/v2/cacheutils/cache.go` and `backend/src/v2/driver/` of Kubeflow Pipelines 2.17. Images, commands,
claims, parameters and the ids of input artifacts decide; environment variables, labels and GPUs do not.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Outputs = Mapping[str, Any]
Stand = Callable[[str, Mapping[str, Any]], Outputs]
"""Gives the output parameters of a component by its name and input parameters."""


def fingerprint(key: Mapping[str, Any]) -> str:
    """The digest of a cache key, as Go writes its JSON: sorted, without what is empty, `<`, `>` and `&` escaped."""
    text = json.dumps(_plain(key), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def cache_key(
    component: Mapping[str, Any],
    container: Mapping[str, Any],
    claims: list[str],
    parameters: Mapping[str, Any],
    artifacts: Mapping[str, str],
) -> dict[str, Any]:
    """What a step's earlier result is found by."""
    outputs = component.get("outputDefinitions", {})
    key = {
        "inputArtifactNames": {name: {"artifactNames": [each]} for name, each in artifacts.items()},
        "inputParameterValues": dict(parameters),
        "outputArtifactsSpec": {
            name: {"name": name, "type": each["artifactType"]} for name, each in outputs.get("artifacts", {}).items()
        },
        "outputParametersSpec": {name: each["parameterType"] for name, each in outputs.get("parameters", {}).items()},
    }
    spec = {
        "image": container["image"],
        "cmdArgs": [*container.get("command", []), *container.get("args", [])],
        "pvcNames": sorted(set(claims)),
    }
    whole = {**key, "containerSpec": {name: each for name, each in spec.items() if each}}
    return {name: each for name, each in whole.items() if each}


@dataclass
class Server:
    """Runs compiled pipelines without loops: every step ends at once, with what `stand` gives."""

    stand: Stand
    _kept: dict[tuple[str, str], tuple[Outputs, dict[str, str]]] = field(default_factory=dict)
    _ids: Any = field(default_factory=count)

    def run(self, documents: list[dict[str, Any]], given: Mapping[str, Any]) -> dict[str, bool]:
        """Whether each step's result was there already, by the step's name.

        Args:
            documents: the compiled file's, the pipeline and perhaps its platform's.
            given: parameters that are not the defaults.
        """
        pipeline = documents[0]
        platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if documents[1:] else {}
        run = str(uuid.uuid4())
        defaults = pipeline["root"]["inputDefinitions"]["parameters"]
        unknown = given.keys() - defaults.keys()
        assert not unknown, unknown
        inputs = {each: spec.get("defaultValue") for each, spec in defaults.items()} | dict(given)
        cached: dict[str, bool] = {}

        def walk(tasks: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
            done: dict[str, tuple[Outputs, dict[str, str]]] = {}
            left = dict(tasks)
            while left:
                ready = next(each for each, task in left.items() if done.keys() >= set(task.get("dependentTasks", [])))
                task = left.pop(ready)
                component = pipeline["components"][task["componentRef"]["name"]]
                parameters = {
                    each: _value(spec, inputs, done, run) for each, spec in task["inputs"].get("parameters", {}).items()
                }
                if "dag" in component:
                    walk(component["dag"]["tasks"], parameters)
                    done[ready] = {}, {}
                else:
                    cached[ready], done[ready] = self._step(pipeline, platform, task, component, parameters, done)

        walk(pipeline["root"]["dag"]["tasks"], inputs)
        return cached

    def _step(
        self,
        pipeline: Mapping[str, Any],
        platform: Mapping[str, Any],
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        parameters: dict[str, Any],
        done: Mapping[str, tuple[Outputs, dict[str, str]]],
    ) -> tuple[bool, tuple[Outputs, dict[str, str]]]:
        """Whether a step's result was there already, and the result."""
        label = component["executorLabel"]
        artifacts = {
            each: done[spec["taskOutputArtifact"]["producerTask"]][1][spec["taskOutputArtifact"]["outputArtifactKey"]]
            for each, spec in task["inputs"].get("artifacts", {}).items()
        }
        for each, spec in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if each not in parameters and "defaultValue" in spec:
                parameters[each] = spec["defaultValue"]
        container = pipeline["deploymentSpec"]["executors"][label]["container"]
        claims = [each["constant"] for each in platform.get(label, {}).get("pvcMount", [])]
        digest = fingerprint(cache_key(component, container, claims, parameters, artifacts))
        key = (pipeline["pipelineInfo"]["name"], digest)
        cached = task.get("cachingOptions", {}).get("enableCache", False) and key in self._kept
        if not cached:
            outputs = component.get("outputDefinitions", {}).get("artifacts", {})
            new = {each: str(next(self._ids)) for each in outputs}
            self._kept[key] = (self.stand(task["componentRef"]["name"], parameters), new)
        return cached, self._kept[key]


def _value(spec: Mapping[str, Any], inputs: Mapping[str, Any], done: Mapping[str, Any], run: str) -> Any:
    if "componentInputParameter" in spec:
        return inputs[spec["componentInputParameter"]]
    if "taskOutputParameter" in spec:
        source = spec["taskOutputParameter"]
        return done[source["producerTask"]][0].get(source["outputParameterKey"])
    if "taskFinalStatus" in spec:
        return {"state": "COMPLETE"}
    constant = spec["runtimeValue"]["constant"]
    return run if constant == "{{$.pipeline_job_uuid}}" else constant
