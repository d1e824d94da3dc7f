"""The first step of a pipeline: every input whose content may change is looked at."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.real_images import write_real_images
from sidlsg.distil.recipes import RECIPES
from sidlsg.real_images.source import find_source
from sidlsg.runtime.errors import InputError
from sidlsg.stages import resolve as stage
from sidlsg.stages.inputs import LARGEST_SEED, parse_seed
from sidlsg.stages.real_images import encode_settled
from sidlsg.stages.resolve import Resolved, resolve_inputs, results_version
from sidlsg.storage.uri import resolve, uri_digest
from sidlsg.teacher.format import DIFFUSERS


@pytest.fixture
def given(tmp_path: Path, assets: Path) -> dict[str, Any]:
    """A run's inputs, on the disk and not bundled."""
    prompts = assets / "prompts"
    files = {
        "prompts": prompts / "prompts.parquet",
        "held_out": prompts / "held_out.txt",
        "judge": assets / "judge" / "judge.safetensors",
    }
    for file in files.values():
        shutil.copyfile(file, tmp_path / file.name)
    shutil.copytree(assets / "tiny-sd", tmp_path / "teacher")
    places = {name: str(tmp_path / file.name) for name, file in files.items()}
    (tmp_path / "weights.toml").write_text("# none\n")
    return {
        **places,
        "weights": str(tmp_path / "weights.toml"),
        "gate_rules": "",
        "recipe": "tiny",
        "changes": {},
        "prompts": [places["prompts"]],
        "teacher": str(tmp_path / "teacher"),
        "teacher_layout": "",
        "seed": "3",
        "pipeline_run": "a",
    }


def test_places_come_back_with_the_digest_of_their_content(given: dict[str, Any]) -> None:
    found = resolve_inputs(**given)
    for name in ("held_out", "teacher", "judge", "weights"):
        place = getattr(found, name)
        assert place == f"{given[name]}@sha256:{uri_digest(given[name], DIFFUSERS)}"
        assert resolve(place, folder=DIFFUSERS) == Path(given[name])
    assert found.seed == 3
    assert resolve_inputs(**given | {"pipeline_run": "another"}) == found


@pytest.mark.parametrize("name", ["prompts", "held_out", "teacher", "judge", "weights"])
def test_a_changed_input_changes_what_is_found_of_it_and_the_whole(given: dict[str, Any], name: str) -> None:
    before = resolve_inputs(**given)
    place = Path(given[name][0] if name == "prompts" else given[name])
    file = place / "unet" / "config.json" if place.is_dir() else place
    file.write_bytes(file.read_bytes() + b"\n")
    after = resolve_inputs(**given)
    kept = "prompts_state" if name == "prompts" else name
    changed = {each for each in Resolved._fields if getattr(before, each) != getattr(after, each)}
    assert changed == {kept, "digest"}


def test_a_table_that_is_added_to_a_folder_is_noticed(given: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "a.txt").write_text("a small red circle\n")
    inputs = given | {"prompts": [str(folder)]}
    states = {resolve_inputs(**inputs).prompts_state}
    (folder / "b.txt").write_text("a large blue ring\n")
    states.add(resolve_inputs(**inputs).prompts_state)
    (folder / "b.txt").rename(folder / "c.txt")
    states.add(resolve_inputs(**inputs).prompts_state)
    assert len(states) == 3


def test_the_small_files_of_a_teacher_in_one_file_count(given: dict[str, Any], tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "model_index.json").write_text("{}")
    inputs = given | {"teacher": given["judge"], "teacher_layout": str(layout)}
    before = resolve_inputs(**inputs)
    (layout / "model_index.json").write_text("{ }")
    after = resolve_inputs(**inputs)
    assert before.results_version != after.results_version


def test_what_is_pinned_is_left_to_the_step_that_reads_it(given: dict[str, Any], hashed: list[str]) -> None:
    pinned = f"{given['judge']}@sha256:{'0' * 64}"
    assert resolve_inputs(**given | {"judge": pinned}).judge == pinned
    assert given["judge"] not in hashed


def test_a_place_on_s3_without_a_digest_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"s3://b/teacher is on S3 and comes without a digest.*sidlsg digest"):
        resolve_inputs(**given | {"teacher": "s3://b/teacher"})


def test_a_fresh_seed_follows_from_the_run() -> None:
    assert parse_seed("fresh", "run-1") == parse_seed("fresh", "run-1") != parse_seed("fresh", "run-2")
    assert 0 <= parse_seed("fresh", "run-1") <= LARGEST_SEED
    assert parse_seed(str(LARGEST_SEED), "") == LARGEST_SEED


@pytest.mark.parametrize("text", ["", "-1", "1.5", "one", "Fresh", "1e3", str(LARGEST_SEED + 1), "²", "1\n"])
def test_another_seed_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="allowed: a whole number up to 2\\^53 - 1, or 'fresh'"):
        parse_seed(text, "run")


@pytest.mark.parametrize("room", ["prompts", "teacher", "distil"])
def test_a_raised_version_changes_that_of_results(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results_version()
    monkeypatch.setattr(getattr(stage, room), "NUMERICS", "raised")
    assert results_version() != before


def test_so_do_a_measures_version_the_resolves_and_a_recipes_value(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [results_version()]
    monkeypatch.setitem(stage.evaluate.NUMERICS, "judge", "2")
    found.append(results_version())
    monkeypatch.setattr(stage, "__version__", "0.2.0")
    found.append(results_version())
    monkeypatch.setitem(RECIPES, "tiny", dataclasses.replace(RECIPES["tiny"], lr=1e-4))
    found.append(results_version())
    assert len(set(found)) == 4


def test_the_version_of_results_needs_no_network_library() -> None:
    code = "import sys, sidlsg.stages.resolve as p; p.results_version(); "
    code += "sys.exit(str({'torch', 'polars'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == "set()"


def test_real_images_are_found_by_the_state_of_their_files(given: dict[str, Any], tmp_path: Path) -> None:
    write_real_images(SHAPES, tmp_path / "shapes.tar", 3, 0)
    images = {"source": str(tmp_path / "shapes.tar"), "licence": "CC0-1.0"}
    plain = resolve_inputs(**given)
    changes = {"adversarial": {"lambda_d": 1, "lambda_g": 1}, "real_images": images}
    before = resolve_inputs(**given | {"changes": changes})
    found = json.loads(before.real_images)
    assert found == {**images, "state": find_source(images["source"]).state}
    assert (plain.real_images, plain.digest != before.digest) == ("", True)
    (tmp_path / "shapes.tar").unlink()
    write_real_images(SHAPES, tmp_path / "shapes.tar", 4, 0)
    after = resolve_inputs(**given | {"changes": changes})
    assert after.digest != before.digest
    with pytest.raises(InputError, match="were changed after this run began"):
        encode_settled(before.real_images, tmp_path / "teacher", [], tmp_path / "e", "float32", 1.0, print)
    with pytest.raises(InputError, match="there is nothing at"):
        resolve_inputs(**given | {"changes": changes | {"real_images": {"source": str(tmp_path / "absent")}}})
