import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate
from sidlsg.pipelines.evaluate_only import evaluate_only
from sidlsg.pipelines.sweep import sweep
from sidlsg.stages.requests import EvaluateRequest, Request, RunRequest, SweepRequest

ONLY_LOCAL = {"run_dir", "tracking_uri"}
AS_JSON = {"changes", "rules", "prices"}
"""A pipeline's parameter is an object where a request has its JSON."""
AS_TEXT = {"protocols", "weights", "teacher_settings", "gate_rules"}
"""A pipeline's parameter is a text where a request has a path or several."""


@pytest.mark.parametrize(
    ("kind", "pipeline"),
    [(RunRequest, distil_and_evaluate), (SweepRequest, sweep), (EvaluateRequest, evaluate_only)],
)
def test_the_defaults_are_the_pipeline_s(kind: type[Request], pipeline: Any) -> None:
    parameters = inspect.signature(pipeline.pipeline_func).parameters
    request = kind(run_dir=Path("run"))
    for field in fields(kind):
        value = getattr(request, field.name)
        if field.name in AS_TEXT:
            assert (not value, parameters[field.name].default) == (True, "")
        elif field.name not in ONLY_LOCAL:
            given = list(value) if isinstance(value, tuple) else json.loads(value) if field.name in AS_JSON else value
            given = str(given) if field.name == "seed" else given
            assert given == parameters[field.name].default, field.name
