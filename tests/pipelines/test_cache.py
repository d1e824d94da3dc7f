"""What runs again on a Kubeflow Pipelines server, and what does not: week by week, by the server's own cache key."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_cache import Server, fingerprint
from sidlsg.cli.catalog import compile_pipeline
from sidlsg.kubeflow.profile_file import read_profile
from sidlsg.stages.resolve import resolve_inputs
from sidlsg.storage.uri import split_list

STEPS = {"curate", "encode", "distil", "evaluate"}
"""The steps whose results are used again."""
PROFILE = """
[images]
curate = "r.example/curate@sha256:{image}"
train = "r.example/train@sha256:{image}"
evaluate = "r.example/evaluate@sha256:{image}"

[run]
checkpoints = "{checkpoints}"

[defaults]
endpoints = "{endpoints}"
"""
CONTAINER = {"cmdArgs": ["sh", "ec", "test"], "image": "python:3.11"}
FRAMEWORK = "  framework:\n    type: string\n  framework_version:\n    type: string\n"
METADATA = f"title: kfp.Model\ntype: object\nproperties:\n{FRAMEWORK}"

Documents = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (
            {
                "inputArtifactNames": {
                    "dataset_one": {"artifactNames": ["1"]},
                    "dataset_two": {"artifactNames": ["2"]},
                },
                "inputParameterValues": {"message": "Some string value", "num_steps": 5.0},
                "outputArtifactsSpec": {
                    "model": {"name": "model", "type": {"instanceSchema": METADATA}, "metadata": {"name": "model"}},
                    "metrics": {
                        "name": "metrics",
                        "type": {"schemaTitle": "kfp.Metrics"},
                        "metadata": {"name": "metrics"},
                    },
                },
                "outputParametersSpec": {"output_parameter_one": "STRING", "output_parameter_two": "INT"},
                "containerSpec": CONTAINER,
            },
            "b498530c9016917298999ec0b01f364a180f8a3862bea0fa672a383ca3f22e4e",
        ),
        (
            {
                "inputArtifactNames": {"dataset": {"artifactNames": ["10"]}},
                "outputParametersSpec": {"output_parameter": "DOUBLE"},
                "containerSpec": {"cmdArgs": ["sh", "ec", "run"], "image": "python:3.11"},
            },
            "3d9a2a778fa3174c6cfc6e639c507c265b5f21ef6e5b1dd70b236462cc6da464",
        ),
    ],
)
def test_the_key_s_digest_is_the_server_s(key: Mapping[str, Any], expected: str) -> None:
    """The digests are those that the server's own tests expect."""
    assert fingerprint(key) == expected


def stand(component: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a step gives: the first one really looks; of the others, what a real one gave would do."""
    if component != "comp-resolve":
        return {"version": "the same student has the same version"}
    given = {name: value for name, value in parameters.items() if name != "prompts"}
    return resolve_inputs(prompts=split_list(parameters["prompts"], ";"), **given)._asdict()


@pytest.fixture
def place(tmp_path: Path, assets: Path) -> Callable[[str], str]:
    """Gives an input of a run, on the disk and not bundled: prompts, held_out, judge or teacher."""
    files = {
        "prompts": assets / "prompts" / "prompts.parquet",
        "held_out": assets / "prompts" / "held_out.txt",
        "judge": assets / "judge" / "judge.safetensors",
    }
    for name, file in files.items():
        shutil.copyfile(file, tmp_path / f"{name}{file.suffix}")
    shutil.copytree(assets / "tiny-sd", tmp_path / "teacher")
    return lambda name: str(next(tmp_path.glob(f"{name}*")))


@pytest.fixture
def given(place: Callable[[str], str]) -> dict[str, Any]:
    """A run's parameters."""
    return {name: place(name) for name in ("prompts", "held_out", "judge", "teacher")}


def compiled(folder: Path, pipeline: str = "distil_and_evaluate", **values: str) -> Documents:
    values = {"image": "1" * 64, "checkpoints": "s3://data/checkpoints", "endpoints": "sidlsg-endpoints"} | values
    (folder / "profile.toml").write_text(PROFILE.format(**values))
    compile_pipeline(folder / "pipeline.yaml", pipeline, read_profile(folder / "profile.toml"))
    return list(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))


@pytest.fixture
def server() -> Server:
    return Server(stand)


def again(found: dict[str, bool]) -> set[str]:
    """The steps that ran, of those that may be taken from the cache."""
    return {name for name in found.keys() & STEPS if not found[name]}


def test_the_second_week_trains_where_there_is_something_new_and_only_then(
    server: Server, given: dict[str, Any], tmp_path: Path
) -> None:
    pipeline = compiled(tmp_path)
    assert again(server.run(pipeline, given)) == STEPS
    same = server.run(pipeline, given)
    assert again(same) == set()
    assert {name for name, cached in same.items() if not cached} == {
        *("resolve", "register", "gate", "promote", "report", "notify")
    }
    with Path(given["held_out"]).open("a") as file:
        file.write("one more caption to hold out\n")
    assert again(server.run(pipeline, given)) == STEPS
    Path(given["prompts"]).write_bytes((tmp_path / "prompts.parquet").read_bytes() + b"more")
    assert again(server.run(pipeline, given)) == STEPS
    (tmp_path / "teacher" / "unet" / "config.json").write_text(
        (tmp_path / "teacher" / "unet" / "config.json").read_text() + "\n"
    )
    # The prompts do not depend on the teacher.
    assert again(server.run(pipeline, given)) == STEPS - {"curate"}
    assert again(server.run(pipeline, given)) == set()


def test_a_fresh_seed_trains_another_student_of_the_same_data(
    server: Server, given: dict[str, Any], tmp_path: Path
) -> None:
    pipeline = compiled(tmp_path)
    server.run(pipeline, given)
    for _ in range(2):
        assert again(server.run(pipeline, given | {"seed": "fresh"})) == {"distil", "evaluate"}
    assert again(server.run(pipeline, given)) == set()


def test_what_no_result_depends_on_runs_nothing_again(server: Server, given: dict[str, Any], tmp_path: Path) -> None:
    server.run(compiled(tmp_path), given)
    moved = compiled(tmp_path, checkpoints="s3://other/place", endpoints="other-endpoints")
    elsewhere = {"tracking_uri": "http://other:5000", "model_name": "other", "prices": {"distil": 1.5}}
    assert again(server.run(moved, given | elsewhere)) == set()


def test_another_image_runs_everything_again(server: Server, given: dict[str, Any], tmp_path: Path) -> None:
    server.run(compiled(tmp_path), given)
    assert again(server.run(compiled(tmp_path, image="2" * 64), given)) == STEPS


def test_a_version_is_scored_again_where_something_of_its_scores_changed(
    server: Server, given: dict[str, Any], tmp_path: Path
) -> None:
    pipeline = compiled(tmp_path, "evaluate_only")
    del given["prompts"]
    assert again(server.run(pipeline, given)) == {"evaluate"}
    assert again(server.run(pipeline, given)) == set()
    with Path(given["held_out"]).open("a") as file:
        file.write("one more caption\n")
    assert again(server.run(pipeline, given)) == {"evaluate"}
