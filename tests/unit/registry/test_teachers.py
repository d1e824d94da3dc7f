"""Teachers in the registry: one version each, with its terms of use and, once announced, its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from sidlsg.registry.registration import register
from sidlsg.registry.teachers import register_teacher
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Student


def test_a_teacher_is_announced_once(client: MlflowClient, tracking_uri: str, assets: Path) -> None:
    teacher = assets / "tiny-sd"
    first = register_teacher(teacher, "bundled:tiny-sd", tracking_uri, "announced")
    assert register_teacher(teacher, "bundled:tiny-sd", tracking_uri, "announced") == first
    assert len(client.search_model_versions("name = 'announced'")) == 1
    version = client.get_model_version("announced", "1")
    assert version.tags == {"teacher_sha256": first.sha256, "license": "apache-2.0", "place": "bundled:tiny-sd"}
    names = {file.path for file in client.list_artifacts(version.run_id, "teacher")}
    assert names == {"teacher/README.md", "teacher/teacher.json"}


def test_a_students_teacher_is_a_version_that_may_be_announced_later(
    client: MlflowClient, tracking_uri: str, tiny_student: Path, assets: Path
) -> None:
    registered = register(tiny_student, tracking_uri, "taught")
    student = Student.load(tiny_student)
    tags = client.get_model_version("taught", str(registered.version)).tags
    assert (tags["teacher_model"], tags["teacher_version"]) == ("taught-teacher", "1")
    assert "place" not in client.get_model_version("taught-teacher", "1").tags
    announced = register_teacher(assets / "tiny-sd", "s3://models/tiny", tracking_uri, "taught-teacher")
    assert (announced.version, announced.sha256) == (1, student.teacher_sha256)
    assert client.get_model_version("taught-teacher", "1").tags["place"] == "s3://models/tiny"


def test_what_is_no_teacher_is_refused(tracking_uri: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model_index\.json"):
        register_teacher(tmp_path, "here", tracking_uri, "none")
