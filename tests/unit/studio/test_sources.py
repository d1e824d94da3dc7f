"""Where a student and its teacher are found, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.stages.run_request import MARKER
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import Student
from sidlsg.storage.uri import open_store
from sidlsg.studio.sources import find_student, find_teacher
from sidlsg.teacher.folder import folder_digest


def test_a_run_has_its_student_its_teacher_and_its_store(tiny_student: Path, assets: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_student, run / "student")
    request = {"teacher": str(assets / "tiny-sd"), "teacher_layout": "", "tracking_uri": ""}
    (run / MARKER).write_text(json.dumps({"request": request}))
    found = find_student(str(run), "", tmp_path)
    assert (found.name, found.folder) == (str(run), run / "student")
    assert found.tracking_uri == f"sqlite:///{run}/mlflow/mlflow.db"
    assert [Path(ref.path).stem for ref in found.grids] == sorted(path.stem for path in run.glob("student/grids/*.png"))
    assert find_teacher("", found) == (assets / "tiny-sd", folder_digest(assets / "tiny-sd"))
    assert find_student(str(run / "student"), "", tmp_path).tracking_uri == found.tracking_uri
    (run / MARKER).write_text(json.dumps({"request": request | {"tracking_uri": "http://mlflow:5000"}}))
    assert find_student(str(run), "", tmp_path).tracking_uri == "http://mlflow:5000"
    # Its teacher may have been moved since.
    (run / MARKER).write_text(json.dumps({"request": request | {"teacher": "/nowhere"}}))
    with pytest.raises(InputError, match="nothing at /nowhere"):
        find_teacher("", find_student(str(run), "", tmp_path))


def test_a_folder_without_a_run_has_the_bundled_teacher_if_it_is_its_own(tiny_student: Path, tmp_path: Path) -> None:
    found = find_student(str(tiny_student), "", tmp_path)
    assert not found.tracking_uri
    assert find_teacher("", found)[1] == found.record.teacher_sha256
    other = replace(found, record=replace(found.record, teacher_sha256="0" * 64))
    for given in ("", "bundled:tiny-sd"):
        with pytest.raises(InputError, match=r"was distilled from the teacher 0000.*as TEACHER"):
            find_teacher(given, other)


@pytest.mark.parametrize("given", ["models:/tiny@champion", "models:/tiny/1"])
def test_a_registered_version_is_downloaded_once(
    given: str, registry: str, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_student(given, registry, tmp_path)
    assert found.record == Student.load(tiny_student)
    assert found.folder.parent == tmp_path
    monkeypatch.setattr("sidlsg.registry.files.fetch_student", None)
    assert find_student(given, registry, tmp_path).folder == found.folder


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere", "no folder nowhere; give the folder of a run or of a student"),
        ("models:/tiny@challenger", "no version or alias 'challenger'"),
        ("models:/other/1", "no model 'other'"),
        ("models:/tiny", "no registered version; give NAME@ALIAS"),
        ("bundled:tiny-sd", "no Student record"),
        ("s3://bucket/student", "comes without a digest"),
    ],
)
def test_what_is_no_student_is_refused(given: str, said: str, registry: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        find_student(given, registry, tmp_path)


def test_a_version_needs_a_registry(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --tracking-uri, or set MLFLOW_TRACKING_URI"):
        find_student("models:/tiny/1", "", tmp_path)


def test_each_bundled_teacher_is_looked_at(tiny_student: Path, assets: Path, tmp_path: Path) -> None:
    found = find_student(str(tiny_student), "", tmp_path)
    for name in ("tiny-sd", "scenes/tiny-sd", "tiny-sd3"):
        digest = folder_digest(assets / name)
        trained = replace(found, record=replace(found.record, teacher_sha256=digest))
        assert find_teacher("", trained) == (assets / name, digest)


@pytest.mark.parametrize("name", ["model_index.json", "grids/*.png"])
def test_a_changed_file_is_refused(name: str, tiny_student: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(tiny_student, folder)
    next(folder.glob(name)).write_text("{}")
    with pytest.raises(InputError, match=r"\.(json|png) has SHA-256"):
        find_student(str(folder), "", tmp_path)


def test_a_student_on_s3_is_checked_against_its_record(s3_place: str, tiny_student: Path, tmp_path: Path) -> None:
    store = open_store(s3_place)
    for path in tiny_student.rglob("*"):
        if path.is_file():
            store.put(f"student/{path.relative_to(tiny_student).as_posix()}", path, sha256_file(path))
    found = find_student(f"{s3_place}/student@sha256:{folder_digest(tiny_student)}", "", tmp_path)
    assert found.record == Student.load(tiny_student)
    assert found.grids == []
