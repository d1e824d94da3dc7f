from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidlsg.kubeflow.local.runs import evaluate_arguments, run_evaluation
from sidlsg.pipelines.evaluate_only import evaluate_only
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import InputError
from sidlsg.stages.requests import RunRequest


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    return RunRequest(
        run_dir=tmp_path / "run", model_name="shapes", version="3", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"
    )


def test_the_version_is_asked_of_the_given_registry(request_: RunRequest, tmp_path: Path) -> None:
    arguments = evaluate_arguments(request_, tmp_path / "run")
    assert (arguments["model_name"], arguments["version"]) == ("shapes", "3")
    assert arguments["tracking_uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert arguments["teacher"] == "bundled:tiny-sd"
    assert "prompts" not in arguments


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tracking_uri": ""}, "no MLflow is given"),
        ({"tracking_uri": "nonsense"}, "is not an address"),
        ({"recipe": "sd21"}, "has no gate"),
        ({"held_out": "/"}, "/ is a folder; give the URI of one file: a text file of evaluation prompts"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(
    request_: RunRequest, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        run_evaluation(evaluate_only, replace(request_, **changed))
    assert not request_.run_dir.exists()


def test_a_registry_that_is_not_there_is_told_before_anything_is_written(request_: RunRequest) -> None:
    with pytest.raises(InputError, match="no MLflow store at"):
        run_evaluation(evaluate_only, request_)
    assert not request_.run_dir.exists()


def test_a_mistyped_version_is_told_before_anything_is_written(request_: RunRequest) -> None:
    client = connect(request_.tracking_uri, create=True)
    client.create_registered_model("shapes")
    client.create_model_version("shapes", source="file:///elsewhere")
    client.set_registered_model_alias("shapes", "champion", "1")
    for which, told in (("2", "has no version 2; it has: 1"), ("champoin", r"did you mean 'champion'\?")):
        with pytest.raises(InputError, match=told):
            run_evaluation(evaluate_only, replace(request_, version=which))
    with pytest.raises(InputError, match=r"no model 'shape' .*did you mean 'shapes'\?"):
        run_evaluation(evaluate_only, replace(request_, model_name="shape"))
    assert not request_.run_dir.exists()
