"""Compares JSON objects with the models of the Kubeflow Pipelines client package."""

from __future__ import annotations

import datetime
import re
from typing import Any

import kfp_server_api as api

SIMPLE = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": dict}
NEEDED = {
    "V2beta1Run": ("display_name", "experiment_id", "pipeline_version_reference"),
    "V2beta1RecurringRun": (
        "display_name",
        "experiment_id",
        "pipeline_version_reference",
        "trigger",
        "mode",
        "max_concurrency",
    ),
    "V2beta1PipelineVersionReference": ("pipeline_id", "pipeline_version_id"),
    "V2beta1Pipeline": ("display_name",),
    "V2beta1Experiment": ("display_name",),
    "V2beta1Predicate": ("operation", "key"),
    "V2beta1CronSchedule": ("cron",),
}
"""What a request may not lack; the models themselves name nothing as required."""
MADE = {
    "V2beta1Run": ("run_id", "created_at", "state"),
    "V2beta1RecurringRun": ("recurring_run_id", "created_at", "status"),
    "V2beta1Pipeline": ("pipeline_id", "created_at"),
    "V2beta1PipelineVersion": ("pipeline_id", "pipeline_version_id", "display_name", "created_at"),
    "V2beta1Experiment": ("experiment_id", "created_at"),
}
"""What the server adds: an answer has it, a request has not."""


def wrong_request(model: str, value: Any) -> list[str]:
    """Everything that a request's body has which the model lacks, and the other way round."""
    made = [f"{model}.{field} is the server's" for field in MADE.get(model, ()) if field in value]
    return made + _wrong(model, value, model, needed=True)


def wrong_answer(model: str, value: Any) -> list[str]:
    """The same of an answer, which has the fields that the server adds."""
    return _wrong(model, value, model, needed=False)


def _wrong(kind: str, value: Any, where: str, *, needed: bool) -> list[str]:
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            return [f"{where} is not a list"]
        return [each for item in value for each in _wrong(inner[1], item, where, needed=needed)]
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            return [f"{where} is not an object"]
        if inner[1] == "object":  # any value
            return []
        return [each for key, item in value.items() for each in _wrong(inner[1], item, f"{where}.{key}", needed=needed)]
    if kind == "datetime":
        try:
            datetime.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            return [f"{where} is not a time: {value!r}"]
        return []
    if kind in SIMPLE:
        right = isinstance(value, SIMPLE[kind]) and (kind == "bool" or not isinstance(value, bool))
        return [] if right else [f"{where} is not {kind}: {value!r}"]
    model = getattr(api, kind)
    if not model.openapi_types:
        return [] if value in model.allowable_values else [f"{where} is not a {kind}: {value!r}"]
    if not isinstance(value, dict):
        return [f"{where} is not an object"]
    types = {key: model.openapi_types[name] for name, key in model.attribute_map.items()}
    required = (NEEDED if needed else MADE).get(kind, ())
    found = [f"{where} has an unknown {key}" for key in value if key not in types]
    found += [f"{where} needs {key}" for key in required if value.get(key, "") == ""]
    for key in value.keys() & types.keys():
        found += _wrong(types[key], value[key], f"{where}.{key}", needed=needed)
    return found
