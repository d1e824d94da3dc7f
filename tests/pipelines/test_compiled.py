"""The compiled pipelines: what the UI shows, what is cached, and that they do not change unseen.

After a wanted change: `sidlsg compile --pipeline NAME --output tests/pipelines/golden/NAME.yaml` for each that the test
names, and read the difference.
"""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidlsg.cli.catalog import PIPELINES, compile_pipeline
from sidlsg.components.images import IMAGE
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.pipelines.curate import PHASES
from sidlsg.pipelines.sweep import AT_ONCE, make_sweep
from sidlsg.prompts.pods import PHASE_NAMES
from sidlsg.runtime.overrides import changes_text
from sidlsg.stages.inputs import curation_rules
from sidlsg.stages.sweep import plan_changes
from sidlsg.storage.uri import resolve

GOLDEN = Path(__file__).parent / "golden"
CACHED = {
    "distil_and_evaluate": {"curate", "encode", "distil", "evaluate"},
    "sweep": {"curate", "encode", "distil", "evaluate"},
    "evaluate_only": {"evaluate"},
    "curate": set(),
}
NUMBERS = ("", *(f"-{number}" for number in range(2, len(PHASES) + 3)))
UNCACHED = {
    "distil_and_evaluate": {"resolve", "register", "gate", "promote", "report", "notify"},
    "sweep": {"plan", "resolve", "register", "compare", "conclude", "notify"},
    "evaluate_only": {"resolve", "find", "gate", "notify"},
    "curate": {
        *("curate-plan", "curate-finish"),
        *(f"curate-part{number}" for number in NUMBERS[: len(PHASES)]),
        *(f"curate-join{number}" for number in NUMBERS),
    },
}
CACHED_STAGES = [(name, stage) for name, stages in CACHED.items() for stage in sorted(stages)]
TYPES = ("STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT")
PLACES = {"prompts", "held_out", "teacher", "judge", "weights"}
RESOLVED = {"prompts_state", "real_images", "held_out", "teacher", "judge", "weights", "results_version", "seed"}
IRRELEVANT = {"tracking_uri", "model_name", "hourly_price", "prices", "gate_rules"}
"""Parameters that no cached step's result depends on."""

Compiled = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("compiled")
    for name in PIPELINES:
        compile_pipeline(folder / f"{name}.yaml", name)
    return {name: (folder / f"{name}.yaml").read_text() for name in PIPELINES}


@pytest.fixture(scope="module")
def compiled(texts: dict[str, str]) -> Compiled:
    return {name: next(yaml.safe_load_all(text)) for name, text in texts.items()}


def body(text: str) -> str:
    """The pipeline without comments, whose order is free, and without the versions of image and compiler."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return re.sub(r"^(\s*image|sdkVersion): .*", r"\1: any", "\n".join(lines), flags=re.MULTILINE)


def parameters(name: str) -> dict[str, Any]:
    return {key: each.default for key, each in inspect.signature(PIPELINES[name].pipeline_func).parameters.items()}


def tasks(pipeline: dict[str, Any]) -> dict[str, Any]:
    """Every task that runs a component, those inside a group or a loop included."""
    groups = [pipeline["root"], *pipeline["components"].values()]
    found = {name: task for group in groups for name, task in group.get("dag", {}).get("tasks", {}).items()}
    return {
        name: task for name, task in found.items() if "dag" not in pipeline["components"][task["componentRef"]["name"]]
    }


@pytest.mark.parametrize("name", PIPELINES)
def test_it_is_as_recorded(texts: dict[str, str], name: str) -> None:
    assert body(texts[name]) == body((GOLDEN / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", PIPELINES)
def test_every_parameter_is_described_and_has_a_default(compiled: Compiled, name: str) -> None:
    found = compiled[name]["root"]["inputDefinitions"]["parameters"]
    assert set(found) == set(parameters(name))
    for key, parameter in found.items():
        assert len(parameter["description"]) > 20, key
        assert parameter["isOptional"] is True, key
        assert parameter["parameterType"] in TYPES, key


@pytest.mark.parametrize("name", PIPELINES)
def test_every_component_s_inputs_are_described(compiled: Compiled, name: str) -> None:
    for component, spec in compiled[name]["components"].items():
        inputs = {} if "dag" in spec else spec["inputDefinitions"]
        for key, each in (inputs.get("parameters", {}) | inputs.get("artifacts", {})).items():
            assert each["description"], f"{component}.{key}"


@pytest.mark.parametrize("name", PIPELINES)
def test_only_what_depends_on_its_inputs_alone_is_cached(compiled: Compiled, name: str) -> None:
    caching = {
        stage: task.get("cachingOptions", {}).get("enableCache", False) for stage, task in tasks(compiled[name]).items()
    }
    assert caching == dict.fromkeys(CACHED[name], True) | dict.fromkeys(UNCACHED[name], False)


@pytest.mark.parametrize(("name", "stage"), CACHED_STAGES)
def test_a_cached_stage_gets_what_the_first_step_found_and_nothing_that_is_irrelevant(
    compiled: Compiled, name: str, stage: str
) -> None:
    inputs = tasks(compiled[name])[stage]["inputs"]["parameters"]
    given: set[str] = set()
    for key, spec in inputs.items():
        source = spec.get("taskOutputParameter", {})
        # Inside a loop, what comes from outside has a name of its own.
        outside = spec.get("componentInputParameter", "").removeprefix("pipelinechannel--")
        if source.get("producerTask") == "resolve" or outside.startswith("resolve-"):
            given.add(source.get("outputParameterKey") or outside.removeprefix("resolve-"))
        else:
            assert outside not in PLACES - {"prompts"}, f"{key} is the place alone"
            # A version that is scored again is found in the registry.
            assert outside not in IRRELEVANT or (name, key) == ("evaluate_only", "tracking_uri")
    assert "results_version" in given
    assert given <= RESOLVED
    assert ("prompts_state" in given) is (stage == "curate")


@pytest.mark.parametrize("name", PIPELINES)
def test_the_front_page_is_short(compiled: Compiled, name: str) -> None:
    found = compiled[name]["root"]["inputDefinitions"]["parameters"]
    assert len(found) <= 20
    assert all(len(each["description"]) <= 150 for each in found.values())
    for key in {"recipe", "embeddings_dtype"} & found.keys():
        assert found[key]["defaultValue"] in found[key]["literals"]


@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_runs_in_the_one_image(compiled: Compiled, name: str) -> None:
    executors = compiled[name]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}
    assert len(executors) == len(CACHED[name] | UNCACHED[name])


def test_steps_install_nothing(texts: dict[str, str]) -> None:
    assert "pip install" not in "".join(texts.values())


@pytest.mark.parametrize("name", PIPELINES)
def test_the_defaults_can_be_used(name: str) -> None:
    defaults = parameters(name)
    if "recipe" in defaults:
        recipe_with_changes(defaults["recipe"], changes_text(defaults.get("changes", {})))
    curation_rules(changes_text(defaults.get("rules", {})))
    if "settings" in defaults:
        plan_changes(defaults["settings"], defaults["recipe"], changes_text(defaults["changes"]))
    for place in (PLACES & set(defaults)) - {"weights"}:
        assert resolve(defaults[place]).exists()


def test_the_phases_of_the_pipeline_are_those_of_the_stage() -> None:
    assert PHASES == PHASE_NAMES


def test_a_sweep_checks_its_settings_before_anything_else(compiled: Compiled) -> None:
    found = compiled["sweep"]["components"]["comp-sweep"]["dag"]["tasks"]
    assert [name for name, task in found.items() if not task.get("dependentTasks")] == ["plan"]


def test_a_sweep_works_on_as_many_settings_at_a_time_as_it_was_made_for(compiled: Compiled) -> None:
    loop = compiled["sweep"]["components"]["comp-sweep"]["dag"]["tasks"]["for-loop-1"]
    assert loop["iteratorPolicy"]["parallelismLimit"] == AT_ONCE
    one = make_sweep(at_once=1).pipeline_spec.root.dag.tasks["for-loop-1"]
    assert one.iterator_policy.parallelism_limit == 1


@pytest.mark.parametrize("name", ["distil_and_evaluate", "sweep", "evaluate_only"])
def test_the_notice_comes_after_all_other_steps_however_they_ended(compiled: Compiled, name: str) -> None:
    found = compiled[name]["root"]["dag"]["tasks"]
    steps = name.replace("_", "-")
    assert set(found) == {steps, "notify"}
    told = found["notify"]
    assert told["dependentTasks"] == [steps]
    assert told["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    inputs = told["inputs"]["parameters"]
    assert inputs["status"] == {"taskFinalStatus": {"producerTask": steps}}
    assert inputs["pipeline_run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"


@pytest.mark.parametrize("name", ["distil_and_evaluate", "sweep", "evaluate_only"])
def test_the_group_of_steps_changes_nothing_that_a_run_is_given_or_leaves(compiled: Compiled, name: str) -> None:
    alone, grouped = PIPELINES[name].component_spec, compiled[name]["root"]
    assert set(grouped["inputDefinitions"]["parameters"]) == set(alone.inputs)
    outputs = grouped["outputDefinitions"]
    assert {*outputs.get("parameters", {}), *outputs["artifacts"]} == set(alone.outputs)
    given = grouped["dag"]["tasks"][name.replace("_", "-")]["inputs"]["parameters"]
    assert given == {key: {"componentInputParameter": key} for key in alone.inputs}
