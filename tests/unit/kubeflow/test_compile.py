"""Compiled pipelines: written, read, and their parameters checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidlsg.cli.catalog import compile_pipeline, get_compiled
from sidlsg.kubeflow.compile import CompiledPipeline, read_compiled
from sidlsg.runtime.errors import InputError

TYPES = {
    "count": "NUMBER_INTEGER",
    "rate": "NUMBER_DOUBLE",
    "fast": "BOOLEAN",
    "text": "STRING",
    "items": "LIST",
    "table": "STRUCT",
}
YAML = """# a comment
pipelineInfo: {name: tiny}
root: {}
"""


@pytest.fixture
def pipeline() -> CompiledPipeline:
    parameters = {name: {"parameterType": kind, "isOptional": True} for name, kind in TYPES.items()}
    return CompiledPipeline(name="tiny", text="", version="v", parameters=parameters)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count=3", 3),
        ("count=3.0", 3),
        ("rate=1e-5", 1e-5),
        ("rate=2", 2),
        ("fast=true", True),
        ("text=true", "true"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("items=[1, 2]", [1, 2]),
        ('table={"a": null}', {"a": None}),
    ],
)
def test_a_text_is_read_by_its_parameters_type(pipeline: CompiledPipeline, text: str, value: object) -> None:
    read = pipeline.parsed([text])
    assert read == {text.partition("=")[0]: value}
    assert type(next(iter(read.values()))) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count", "--set 'count' has no value; give count=VALUE"),
        ("count=3.5", "parameter count is 3.5; it must be a whole number"),
        ("count=true", "parameter count is True; it must be a whole number"),
        ("count=", "parameter count is ''; it must be a whole number"),
        ("count=1e16", "parameter count is 1e+16; it must be a whole number up to 2**53"),
        ("rate=fast", "parameter rate is 'fast'; it must be a number"),
        ("rate=NaN", "parameter rate is nan; it must be a number"),
        ("rate=Infinity", "parameter rate is inf; it must be a number"),
        ("fast=yes", "parameter fast is 'yes'; it must be true or false"),
        ("fast=1", "parameter fast is 1; it must be true or false"),
        ("items={}", "parameter items is {}; it must be a JSON list"),
        ("items=[NaN]", "parameter items is [nan]; it must be a JSON list"),
        ("table=[]", "parameter table is []; it must be a JSON object"),
        ("cuont=1", "pipeline tiny has no parameter 'cuont' (did you mean 'count'?); allowed: count, rate"),
    ],
)
def test_a_value_of_another_type_is_refused(pipeline: CompiledPipeline, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        pipeline.parsed([text])
    assert message in str(caught.value)


def test_a_parameter_is_given_once(pipeline: CompiledPipeline) -> None:
    with pytest.raises(InputError, match="--set gives count twice"):
        pipeline.parsed(["count=1", "count=2"])


@pytest.mark.parametrize(("more", "needed"), [({}, True), ({"isOptional": True}, False), ({"defaultValue": 0}, False)])
def test_what_has_no_default_must_be_given(more: dict[str, Any], needed: bool) -> None:
    parameters = {"count": {"parameterType": "NUMBER_INTEGER"} | more}
    pipeline = CompiledPipeline(name="tiny", text="", version="v", parameters=parameters)
    if not needed:
        assert pipeline.checked({}) == {}
        return
    with pytest.raises(InputError, match=r"pipeline tiny needs the parameter count, a whole number up to .*; give it"):
        pipeline.checked({})


def test_a_version_is_of_the_content(tmp_path: Path) -> None:
    def version(text: str) -> str:
        (tmp_path / "tiny.yaml").write_text(text)
        return read_compiled(tmp_path / "tiny.yaml").version

    assert version(YAML) == version("root: {}\n# another comment\npipelineInfo: {name: tiny}\n")
    assert version(YAML) != version(YAML.replace("tiny", "tinier"))
    assert version(YAML) != version(f"{YAML}---\nplatforms: {{}}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\xfa", "is not YAML"),
        (b"", "is not a compiled pipeline"),
        (b"text", "is not a compiled pipeline"),
        (b"pipelineInfo: {name: tiny}", "is not a compiled pipeline"),
        (b"pipelineInfo: {name: tiny}\nroot: {}\n1: 2", "is not a compiled pipeline"),
        (b"pipelineInfo: {name: [1]}\nroot: {}", "is not a compiled pipeline"),
        (b"pipelineInfo: {name: tiny}\nroot: {inputDefinitions: {parameters: [1]}}", "is not a compiled pipeline"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "tiny.yaml").write_bytes(content)
    with pytest.raises(InputError, match=f"tiny.yaml {message}.*; give a file from `sidlsg compile`"):
        get_compiled("tiny.yaml", tmp_path)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"'sweeep' is unknown \(did you mean 'sweep'\?\)"):
        get_compiled("sweeep")


def test_a_pipeline_is_written_and_replaced(tmp_path: Path) -> None:
    output = tmp_path / "new" / "pipeline.yaml"
    compile_pipeline(output)
    output.write_text("old")
    compile_pipeline(output)
    assert next(yaml.safe_load_all(output.read_text()))["pipelineInfo"]["name"] == "distil-and-evaluate"
    assert [p.name for p in output.parent.iterdir()] == ["pipeline.yaml"]


@pytest.mark.parametrize(("name", "written"), [("sweep", "sweep"), ("evaluate_only", "evaluate-only")])
def test_other_pipelines_are_written_by_name(tmp_path: Path, name: str, written: str) -> None:
    compile_pipeline(tmp_path / "pipeline.yaml", name)
    assert next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))["pipelineInfo"]["name"] == written


def test_an_unknown_pipeline_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'sweeep' is unknown \(did you mean 'sweep'\?\); allowed: distil"):
        compile_pipeline(tmp_path / "pipeline.yaml", "sweeep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["pipeline", "pipeline.json"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a YAML file"):
        compile_pipeline(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        compile_pipeline(tmp_path / "pipeline.yaml")


def test_a_missing_kfp_is_reported_in_one_line() -> None:
    code = "import sys; sys.modules['kfp'] = None; import sidlsg.kubeflow.local.runs"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "sidlsg.runtime.errors.InputError: "
        "kfp is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'"
    )
