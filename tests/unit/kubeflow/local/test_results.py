import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate
from sidlsg.pipelines.evaluate_only import evaluate_only
from sidlsg.pipelines.sweep import sweep
from sidlsg.stages.requests import RunRequest

ONLY_LOCAL = {"tracking_uri", "embeddings_dtype"}
AS_JSON = {"changes", "rules", "prices"}
"""A pipeline's parameter is an object where a request has its JSON."""
AS_TEXT = {"protocols", "weights", "teacher_settings", "gate_rules"}
"""A pipeline's parameter is a text where a request has a path or several."""


@pytest.mark.parametrize("pipeline", [distil_and_evaluate, sweep, evaluate_only])
def test_the_defaults_are_the_pipeline_s(pipeline: Any) -> None:
    request = asdict(RunRequest(run_dir=Path("run")))
    for name, parameter in inspect.signature(pipeline.pipeline_func).parameters.items():
        if name in ONLY_LOCAL:
            continue
        value = request[name]
        if name in AS_TEXT:
            assert (not value, parameter.default) == (True, "")
        else:
            given = list(value) if isinstance(value, tuple) else json.loads(value) if name in AS_JSON else value
            assert (str(given) if name == "seed" else given) == parameter.default, name
