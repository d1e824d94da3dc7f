"""What is written about each component is what the component is."""

import importlib
import re
from pathlib import Path
from typing import Any

import docstring_parser
import pytest
import yaml
from mlflow.utils.validation import _validate_param

from sidlsg.components.images import VARIABLE

ROOT = Path(__file__).parents[2] / "components"
STAGES = sorted(p.parent.name for p in ROOT.glob("*/component.py"))
LIST = "List[…]"
"""Of anything: `metadata.yaml` does not say of what."""
TYPES = {
    "str": "String",
    "int": "Integer",
    "float": "Float",
    "bool": "Boolean",
    "dict": "Dict",
    "list": LIST,
    "artifacts": "system.Artifact@0.0.1",
    "PipelineTaskFinalStatus": "PipelineTaskFinalStatus",
}


def component(name: str) -> Any:
    return getattr(importlib.import_module(f"sidlsg.components.{name}.component"), name)


def metadata(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name / "metadata.yaml").read_text())


def kfp_type(written: str) -> str:
    return TYPES.get(written, f"system.{written}@0.0.1")


def test_there_is_a_component_a_stage() -> None:
    assert [
        *("compare", "conclude", "curate", "curate_finish", "curate_join", "curate_part", "curate_plan"),
        *("distil", "distil_nodes", "encode", "evaluate", "find", "gate", "notify", "plan", "promote", "register"),
        *("report", "resolve"),
    ] == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_the_metadata_match_the_code(name: str) -> None:
    written, spec = metadata(name), component(name).component_spec
    assert written["name"] == name
    assert written["image"] == VARIABLE
    for side, coded in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        coded = coded or {}
        types = {name: re.sub(r"^List\[.*", LIST, spec.type) for name, spec in coded.items()}
        assert {x["name"]: kfp_type(x["type"]) for x in written[side]} == types
        for x in written[side]:
            assert getattr(coded[x["name"]], "is_artifact_list", False) is (x["type"] == "artifacts")


@pytest.mark.parametrize("name", STAGES)
def test_the_descriptions_match_the_docstring(name: str) -> None:
    written = metadata(name)
    doc = component(name).python_func.__doc__
    parsed = docstring_parser.parse(doc)
    told = {p.arg_name: " ".join(p.description.split()) for p in parsed.params}
    for line in doc.partition("Returns:")[2].strip().splitlines():
        key, _, text = line.strip().partition(": ")
        told[key] = text
    assert written["description"] == parsed.short_description
    assert {x["name"]: x["description"] for x in written["inputs"] + written["outputs"]} == told


@pytest.mark.parametrize("name", STAGES)
def test_the_readme_matches_the_metadata(name: str) -> None:
    written = metadata(name)
    text = (ROOT / name / "README.md").read_text()
    assert text.startswith(f"# {name}\n\n{written['description']}\n")
    assert f"`{written['stage']}`" in text
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(x["name"], x["type"], x["description"]) for x in written["inputs"] + written["outputs"]]


@pytest.mark.parametrize("name", STAGES)
def test_the_stage_is_the_function_that_the_code_calls(name: str) -> None:
    module, _, function = metadata(name)["stage"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))
    code = (ROOT / name / "component.py").read_text()
    assert f"from {module} import {function}" in code


@pytest.mark.parametrize("name", STAGES)
def test_a_component_imports_only_the_standard_library_and_kfp_at_its_top(name: str) -> None:
    code = (ROOT / name / "component.py").read_text()
    modules = re.findall(r"^(?:from|import) (\S+)", code, re.MULTILINE)
    assert set(modules) <= {"typing", "kfp", "kfp.dsl", "sidlsg.components.images"}


@pytest.mark.parametrize("name", STAGES)
def test_mlflow_takes_the_names_of_parameters_and_their_defaults(name: str) -> None:
    """Kubeflow Pipelines logs the parameters of a step there, all or none."""
    inputs = component(name).component_spec.inputs or {}
    for parameter, spec in inputs.items():
        _validate_param(parameter, str(spec.default))
