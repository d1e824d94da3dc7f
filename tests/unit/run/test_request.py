import inspect
from dataclasses import fields
from pathlib import Path

from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate
from sidlsg.run.request import RunRequest

ONLY_LOCAL = {"run_dir", "tracking_uri"}


def test_the_defaults_are_the_pipeline_s() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(distil_and_evaluate.pipeline_func).parameters.items()
    }
    request = RunRequest(run_dir=Path("run"))
    for field in fields(RunRequest):
        if field.name not in ONLY_LOCAL:
            assert getattr(request, field.name) == defaults[field.name]
