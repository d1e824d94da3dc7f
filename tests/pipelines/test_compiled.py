"""The compiled pipeline: what the UI shows, what is cached, and that it does not change unseen.

After a wanted change: `sidlsg compile tests/pipelines/golden/distil_and_evaluate.yaml`, and read the difference.
"""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidlsg.components.images import IMAGE
from sidlsg.pipelines.distil_and_evaluate import distil_and_evaluate
from sidlsg.places import resolve
from sidlsg.recipes.recipe import recipe_with_changes
from sidlsg.run.compile import compile_pipeline
from sidlsg.run.parameters import curation_rules

GOLDEN = Path(__file__).parent / "golden" / "distil_and_evaluate.yaml"
CACHED = {"curate", "encode", "distil", "evaluate"}
UNCACHED = {"register", "gate", "promote", "report"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(output)
    return output.read_text()


@pytest.fixture(scope="module")
def compiled(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def body(text: str) -> str:
    """The pipeline without comments, whose order is free, and without the versions of image and compiler."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return re.sub(r"^(\s*image|sdkVersion): .*", r"\1: any", "\n".join(lines), flags=re.MULTILINE)


def test_it_is_as_recorded(text: str) -> None:
    assert body(text) == body(GOLDEN.read_text())


def test_every_parameter_is_described_and_has_a_default(compiled: dict[str, Any]) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == set(inspect.signature(distil_and_evaluate.pipeline_func).parameters)
    for name, parameter in parameters.items():
        assert len(parameter["description"]) > 20, name
        assert parameter["isOptional"] is True, name
        assert parameter["parameterType"] in ("STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE"), name


def test_every_component_s_inputs_are_described(compiled: dict[str, Any]) -> None:
    for name, component in compiled["components"].items():
        inputs = component["inputDefinitions"]
        for key, spec in (inputs.get("parameters", {}) | inputs.get("artifacts", {})).items():
            assert spec["description"], f"{name}.{key}"


def test_only_what_depends_on_its_inputs_alone_is_cached(compiled: dict[str, Any]) -> None:
    tasks = compiled["root"]["dag"]["tasks"]
    caching = {name: task.get("cachingOptions", {}).get("enableCache", False) for name, task in tasks.items()}
    assert caching == dict.fromkeys(CACHED, True) | dict.fromkeys(UNCACHED, False)


@pytest.mark.parametrize("name", sorted(CACHED))
def test_a_cached_stage_gets_the_digest_of_the_code_and_of_each_outside_input(
    compiled: dict[str, Any], name: str
) -> None:
    places = {"prompts", "held_out", "teacher", "judge"}
    inputs = compiled["root"]["dag"]["tasks"][name]["inputs"]["parameters"]
    given = {spec.get("componentInputParameter") for spec in inputs.values()}
    assert "package_sha256" in given
    assert {f"{place}_sha256" for place in places & given} <= given
    assert places & given


def test_every_step_runs_in_the_one_image(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}
    assert len(executors) == len(CACHED | UNCACHED)


def test_steps_install_nothing(text: str) -> None:
    assert "pip install" not in text


def test_the_defaults_can_be_used() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(distil_and_evaluate.pipeline_func).parameters.items()
    }
    recipe_with_changes(defaults["recipe"], defaults["changes"])
    curation_rules(defaults["rules"])
    for name in ("prompts", "held_out", "judge", "teacher"):
        assert resolve(defaults[name]).exists()
