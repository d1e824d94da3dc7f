"""Files: uploads and downloads are equal to what was registered, or an error."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from sidlsg.registry.connection import connect, experiment_id
from sidlsg.registry.files import fetch_model, fetch_student, stored_digest, upload
from sidlsg.registry.registration import register
from sidlsg.runtime.errors import InputError, StorageError
from sidlsg.storage.files import sha256_file
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


def test_a_version_that_mlflow_has_loaded_is_still_the_registered_one(make_student, tracking_uri, tmp_path):
    version = register(make_student(seed=3), tracking_uri, "loaded")
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.pyfunc.load_model(f"models:/loaded/{version.version}")
    assert (stored(tracking_uri, version.run_id).parent.parent / "registered_model_meta").is_file()
    fetch_model(version, tracking_uri, tmp_path / "model")


@pytest.mark.parametrize("change", ["code", "added file", "environment", "no digest"])
def test_a_model_whose_code_was_changed_is_not_fetched(make_student, tracking_uri, tmp_path, change):
    version = register(make_student(), tracking_uri, f"changed-{change.replace(' ', '-')}")
    place = stored(tracking_uri, version.run_id).parent.parent
    if change == "no digest":
        connect(tracking_uri).delete_tag(version.run_id, "model_sha256")
    else:
        file = {"code": "pyfunc_model.py", "added file": "sitecustomize.py", "environment": "requirements.txt"}[change]
        (place / file).write_text("other")
    with pytest.raises(InputError, match=r"they can run any code|has no digest of the files that serve it"):
        fetch_model(version, tracking_uri, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.fixture
def run(tracking_uri: str) -> tuple[MlflowClient, str]:
    client = connect(tracking_uri, create=True)
    return client, client.create_run(experiment_id(client, "uploads")).info.run_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.bin", "deep/b.bin", "deep/er/c.bin"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    return tmp_path / "folder"


def sent(monkeypatch: pytest.MonkeyPatch, change: Any = None) -> list[str]:
    """The files that are sent; `change` does something to what is stored of each."""
    original, names = MlflowClient.log_artifact, []

    def log(self: MlflowClient, run_id: str, local: str, parent: str) -> None:
        names.append(Path(local).name)
        if change is not None:
            local = change(Path(local))
        original(self, run_id, local, parent)

    monkeypatch.setattr(MlflowClient, "log_artifact", log)
    return names


def test_everything_arrives_once(run: tuple[MlflowClient, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, run_id = run
    names = sent(monkeypatch)
    upload(client, run_id, folder, "model")
    assert stored_digest(client, run_id, "model/deep/er/c.bin") == sha256_file(folder / "deep" / "er" / "c.bin")
    (folder / "a.bin").write_bytes(b"changed")
    upload(client, run_id, folder, "model")
    assert names == ["a.bin", "b.bin", "c.bin", "a.bin"]
    assert stored_digest(client, run_id, "model/a.bin") == sha256_file(folder / "a.bin")


def test_a_store_that_loses_bytes_is_found_out(
    run: tuple[MlflowClient, str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortened(path: Path) -> str:
        short = tmp_path / "short" / path.name
        short.parent.mkdir(exist_ok=True)
        short.write_bytes(path.read_bytes()[:-1])
        return str(short)

    sent(monkeypatch, shortened)
    with pytest.raises(StorageError, match=r"model/a\.bin of run .* came back .* with SHA-256"):
        upload(*run, folder, "model")
