"""Fetching: what comes back is what was registered, or nothing."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from sidlsg.registry.connection import connect
from sidlsg.registry.files import fetch_model, fetch_student
from sidlsg.registry.registration import register
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Student


@pytest.fixture(scope="module")
def source(make_student) -> Path:
    return make_student()


@pytest.fixture(scope="module")
def version(source, tracking_uri):
    return register(source, tracking_uri, "fetched")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_files_come_back(version, source, tracking_uri, tmp_path):
    target = tmp_path / "deep" / "student"
    assert fetch_student(version, tracking_uri, target) == target
    assert contents(target) == contents(source)
    assert fetch_student(version, tracking_uri, target) == target  # replaces its own earlier output
    assert [path.name for path in target.parent.iterdir()] == ["student"]


def test_a_folder_that_holds_something_else_is_left_alone(version, tracking_uri, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        fetch_student(version, tracking_uri, tmp_path)


def test_a_version_of_another_student_is_refused(version, tracking_uri, tmp_path):
    with pytest.raises(InputError, match="was made of student"):
        fetch_student(dataclasses.replace(version, student_sha256="f" * 64), tracking_uri, tmp_path / "student")
    with pytest.raises(InputError, match="no version 77"):
        fetch_student(dataclasses.replace(version, version=77), tracking_uri, tmp_path / "student")


def stored(tracking_uri: str, run_id: str) -> Path:
    uri = connect(tracking_uri).get_run(run_id).info.artifact_uri
    return Path(uri.removeprefix("file://")) / "model" / "artifacts" / "student"


def test_damage_in_the_store_is_found(make_student, tracking_uri, tmp_path):
    version = register(make_student(seed=1), tracking_uri, "fetched")
    place = stored(tracking_uri, version.run_id)
    (place / "unet" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="changed or damaged"):
        fetch_student(version, tracking_uri, tmp_path / "student")
    record = Student.load(place)
    dataclasses.replace(record, seed=2).save(place)
    with pytest.raises(InputError, match="are of student"):
        fetch_student(version, tracking_uri, tmp_path / "student")
    shutil.rmtree(place)
    with pytest.raises(InputError, match="cannot be downloaded"):
        fetch_student(version, tracking_uri, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_the_model_that_is_served_is_the_one_that_was_registered(version, tracking_uri, tmp_path):
    assert fetch_model(version, tracking_uri, tmp_path / "model") == tmp_path / "model"
    assert contents(tmp_path / "model") == contents(stored(tracking_uri, version.run_id).parent.parent)


@pytest.mark.parametrize("change", ["code", "beside", "environment", "no digest"])
def test_a_model_whose_code_was_changed_is_not_fetched(make_student, tracking_uri, tmp_path, change):
    version = register(make_student(), tracking_uri, f"changed-{change.replace(' ', '-')}")
    place = stored(tracking_uri, version.run_id).parent.parent
    if change == "no digest":
        connect(tracking_uri).delete_tag(version.run_id, "model_sha256")
    else:
        file = {"code": "pyfunc_model.py", "beside": "sitecustomize.py", "environment": "requirements.txt"}[change]
        (place / file).write_text("other")
    with pytest.raises(InputError, match=r"they can run any code|has no digest of the files that serve it"):
        fetch_model(version, tracking_uri, tmp_path / "model")
    assert not (tmp_path / "model").exists()
