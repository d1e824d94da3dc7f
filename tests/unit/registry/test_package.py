"""Packing: what goes into the MLflow model folder."""

from __future__ import annotations

import dataclasses
import re

import mlflow
import pytest

from sidlsg.registry.package import requirements, save_model, student_files
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import FileRef, Student


def test_requirements_are_exact_and_installable_anywhere():
    for line in requirements():
        assert re.fullmatch(r"[a-z]+==[0-9][0-9.]*", line), line


def test_the_saved_model_declares_its_interface_and_leaves_the_student_alone(make_student, tmp_path):
    folder = make_student()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    save_model(Student.load(folder), folder, tmp_path / "model")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    info = mlflow.models.get_model_info(str(tmp_path / "model"))
    assert [(p.name, p.dtype.name, p.default) for p in info.signature.params] == [
        ("seed", "long", 0),
        ("count", "long", 1),
        ("steps", "long", 1),
        ("format", "string", "png"),
    ]
    assert info.metadata["safety_checker"] == "none"
    assert (tmp_path / "model" / "requirements.txt").read_text().split() == requirements()
    # Nothing pickled: code and safetensors only.
    assert not list((tmp_path / "model").rglob("*.pkl"))


@pytest.mark.parametrize("path", ["s3://bucket/unet.safetensors", "link/unet.safetensors"])
def test_files_elsewhere_are_refused(make_student, path):
    folder = make_student()
    (folder / "link").symlink_to(folder.parent)
    student = dataclasses.replace(Student.load(folder), model=(FileRef(path=path, sha256="0" * 64),))
    with pytest.raises(InputError, match="only files inside that folder"):
        student_files(student, folder)
