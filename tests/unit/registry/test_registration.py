"""Registering: one run and one version a student, whatever happens in between."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sidlsg.registry import registration as stage
from sidlsg.registry.registration import Circumstances, register
from sidlsg.runtime.errors import InputError
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import LINEAGE, Student, file_ref
from sidlsg.storage.uri import PIN


def runs_and_versions(client: MlflowClient, name: str) -> tuple[int, int]:
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return len(runs), len(client.search_model_versions(f"name = '{name}'"))


def test_a_student_becomes_one_run_and_one_version(client, tracking_uri, make_student):
    folder = make_student()
    (folder / "stray.bin").write_bytes(b"not part of the student")
    digest = Student.load(folder).digest
    first = register(folder, tracking_uri, "once")
    assert (first.name, first.version, first.student_sha256) == ("once", 1, digest)

    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "lr": "0.0001",
        "optimizer.betas": "[0.0, 0.999]",
        "note": "plain text",
        "recipe": "tiny",
        "strategy": "lsg",
        "seed": "0",
        "t_init": "625",
        "steps": "1",
        "kappa1": "2.0",
        "kappa2": "2.0",
        "kappa3": "2.0",
        "kappa4": "1.5",
    }
    assert run.data.tags["student_sha256"] == digest
    assert [run.data.tags[f"{what}_sha256"] for what in ("teacher", "prompts", "package")] == [
        letter * 64 for letter in "abc"
    ]
    losses = client.get_metric_history(first.run_id, "fake_score_loss")
    assert [(m.step, m.value) for m in losses] == [(32, 3.0), (64, 2.5)]
    assert math.isnan(client.get_metric_history(first.run_id, "generator_loss")[1].value)
    assert set(run.data.metrics) == {"fake_score_loss", "generator_loss"}
    images = [f.path for f in client.list_artifacts(first.run_id, "images") if f.path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in images) == ["32", "64"]
    assert "README.md" in [f.path for f in client.list_artifacts(first.run_id)]
    packed = [f.path.rpartition("/")[2] for f in client.list_artifacts(first.run_id, "model/artifacts/student")]
    assert "model_index.json" in packed
    assert "stray.bin" not in packed

    version = client.get_model_version("once", "1")
    assert version.tags["student_sha256"] == digest
    assert version.run_id == first.run_id

    assert register(folder, tracking_uri, "once") == first
    assert runs_and_versions(client, "once") == (1, 1)


def test_artifacts_are_next_to_the_database(client, tracking_uri):
    place = client.get_experiment_by_name("once").artifact_location
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    assert place == f"file://{database.parent}/artifacts"


def test_another_student_becomes_another_version(client, tracking_uri, make_student):
    versions = [register(make_student(seed), tracking_uri, "two").version for seed in (1, 2)]
    assert versions == [1, 2]
    assert runs_and_versions(client, "two") == (2, 2)


@pytest.mark.parametrize("place", ["log_student", "save_model", "create_version"])
def test_a_killed_call_is_continued(client, tracking_uri, make_student, monkeypatch, place):
    """A kill leaves the run as it is: the patch also keeps the stage from marking the run as failed."""
    name, folder = f"killed-in-{place}", make_student()
    original = getattr(stage, place)

    def killed_after(*args):
        if place != "create_version":
            original(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, place, killed_after)
        patch.setattr(MlflowClient, "set_terminated", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            register(folder, tracking_uri, name)
    assert runs_and_versions(client, name) == (1, 0)

    version = register(folder, tracking_uri, name)
    assert runs_and_versions(client, name) == (1, 1)
    assert client.get_run(version.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(version.run_id, "fake_score_loss")) == 2
    assert len([f for f in client.list_artifacts(version.run_id, "images") if f.path.endswith(".png")]) == 2


def test_a_run_with_another_students_model_is_not_taken(client, tracking_uri, make_student):
    """A run that was opened elsewhere, in which two trainings took place: each model stays what it is."""
    folders = [make_student(seed) for seed in (11, 12)]
    students = [Student.load(folder) for folder in folders]
    tags = {"training_sha256": "t", "opened_elsewhere": "true", "teacher_sha256": "a" * 64, "prompts_sha256": "b" * 64}
    given = client.create_run(client.create_experiment("given-elsewhere"), tags=tags).info.run_id
    client.set_tag(given, "student_sha256", students[0].digest)
    first = register(folders[0], tracking_uri, "two-in-one")
    assert first.run_id == given
    client.set_tag(given, "student_sha256", students[1].digest)
    second = register(folders[1], tracking_uri, "two-in-one")
    assert second.run_id != given
    assert client.get_run(given).info.status == "RUNNING"
    assert client.get_run(second.run_id).info.status == "FINISHED"
    (place,) = [
        f.path for f in client.list_artifacts(given, "model/artifacts/student") if f.path.endswith("student.json")
    ]
    assert students[0].to_json() == Path(client.download_artifacts(given, place)).read_text()


def test_an_error_marks_the_run_and_the_next_call_mends_it(client, tracking_uri, make_student, monkeypatch):
    folder = make_student()
    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_model", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            register(folder, tracking_uri, "failing")
    experiment = client.get_experiment_by_name("failing").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    version = register(folder, tracking_uri, "failing")
    assert client.get_run(version.run_id).info.status == "FINISHED"
    assert runs_and_versions(client, "failing") == (1, 1)


def test_a_version_made_by_a_racing_caller_wins(client, tracking_uri, make_student, monkeypatch):
    """Both callers found no version; the other one was quicker to create it."""
    folder = make_student()
    first = register(folder, tracking_uri, "raced")
    original, calls = stage.tagged_versions, []

    def blind_once(*args):
        calls.append(args)
        return [] if len(calls) == 1 else original(*args)

    monkeypatch.setattr(stage, "tagged_versions", blind_once)
    assert register(folder, tracking_uri, "raced") == first
    assert runs_and_versions(client, "raced") == (1, 1)


def replaced(path: Path, content: str) -> None:
    path.unlink()  # the fixture's files are hard links
    path.write_text(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: replaced(folder / "unet" / "config.json", "{}"), "changed or damaged"),
        (lambda folder: (folder / "README.md").unlink(), "model card"),
        (lambda folder: (folder / "student.json").unlink(), "no Student record"),
        (lambda folder: shutil.rmtree(folder / "grids"), "missing"),
    ],
)
def test_a_damaged_student_is_refused(client, tracking_uri, make_student, damage, message):
    folder = make_student()
    damage(folder)
    with pytest.raises(InputError, match=message):
        register(folder, tracking_uri, "damaged")
    assert runs_and_versions(client, "damaged") == (0, 0)


@pytest.mark.parametrize("name", ["", "a/b", "it's", "a:b", "-x"])
def test_a_name_that_mlflow_cannot_hold_is_refused(tracking_uri, make_student, name):
    with pytest.raises(InputError, match="model name"):
        register(make_student(), tracking_uri, name)


def test_a_version_has_tags_of_its_origin(client, tracking_uri, tiny_student):
    circumstances = Circumstances(pipeline_run="run-7", hourly_price=2.5)
    student = Student.load(tiny_student)
    version = register(tiny_student, tracking_uri, "lineage", circumstances)
    tags = client.get_model_version("lineage", str(version.version)).tags
    assert tags["pipeline_run"] == "run-7"
    assert tags["license"] == "apache-2.0"
    assert tags["kappas"] == "1.2, 1.2, 1.2, 1.2"
    assert tags["images_seen"] == "8"
    assert tags["git_commit"] == student.git_commit
    assert float(tags["training_cost"]) == pytest.approx(student.seconds / 3600 * 2.5, abs=1e-4)
    used = {found.dataset.name: found.dataset for found in client.get_run(version.run_id).inputs.dataset_inputs}
    prompts = used.pop(f"prompt set {student.prompts_sha256[:8]}")
    assert prompts.digest == student.prompts_sha256[:36]
    assert json.loads(prompts.source)["prompt_set_sha256"] == student.prompts_sha256
    assert json.loads(used.pop("teacher").source) == {"sha256": student.teacher_sha256}
    assert not used
    assert register(tiny_student, tracking_uri, "lineage", Circumstances(pipeline_run="run-8")) == version
    assert client.get_model_version("lineage", str(version.version)).tags["pipeline_run"] == "run-7"
    packed = {
        f.path.rpartition("/")[2] for f in client.list_artifacts(version.run_id, "model/artifacts/student/teacher")
    }
    assert packed == {"README.md"}


@pytest.mark.parametrize("known", [True, False])
def test_a_run_has_its_teachers_uri(client, tracking_uri, tiny_student, known):
    sha256 = Student.load(tiny_student).teacher_sha256 if known else "0" * 64
    circumstances = Circumstances(teacher=f"s3://models/teacher{PIN}{sha256}")
    version = register(tiny_student, tracking_uri, f"placed-{known}", circumstances)
    used = {found.dataset.name: found.dataset for found in client.get_run(version.run_id).inputs.dataset_inputs}
    source = json.loads(used["teacher"].source)
    assert source["sha256"] == Student.load(tiny_student).teacher_sha256
    assert source.get("place") == ("s3://models/teacher" if known else None)


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_an_invalid_price_is_refused(price):
    with pytest.raises(InputError, match="hourly price"):
        Circumstances(hourly_price=price)


def test_a_version_says_which_real_images_its_student_was_trained_with(client, tracking_uri, make_student):
    plain = make_student()
    folder = plain.with_name("with-images")
    shutil.copytree(plain, folder)
    images = RealImageSet(
        source="s3://data/photos",
        source_sha256="a" * 64,
        licence="CC0-1.0 " * 200,
        vae_sha256="b" * 64,
        captions_sha256="c" * 64,
        resolution=32,
        count=3,
        shape=(4, 8, 8),
        shards=(),
        funnel=(),
    )
    (folder / LINEAGE).mkdir(exist_ok=True)
    record = Student.load(folder)
    lineage = (*record.lineage, file_ref(images.save(folder / LINEAGE), folder))
    dataclasses.replace(record, lineage=lineage).save(folder)
    for student, name in ((plain, "images-none"), (folder, "images-some")):
        version = register(student, tracking_uri, name)
        tags = client.get_model_version(name, str(version.version)).tags
        if student == plain:
            assert "real_images" not in tags
        else:
            assert tags["real_images"].startswith(f"3 from s3://data/photos (SHA-256 {'a' * 64}), licence: CC0-1.0")
            assert len(tags["real_images"]) == 1000
