"""The doctor finds what killed calls leave and removes it, but nothing that is in use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sidlsg.cli.app import main
from sidlsg.registry import locks
from sidlsg.registry import registration as stage
from sidlsg.registry.doctor import examine
from sidlsg.registry.locks import locked
from sidlsg.registry.registration import register
from sidlsg.registry.run_log import run_tags
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Student


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The program itself, for its exit code."""

    def run(*given: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["sidlsg", "registry", "doctor", *given])
        capsys.readouterr()
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr().out
        return 0, capsys.readouterr().out

    return run


def artifacts(client: MlflowClient, run_id: str) -> Path:
    return Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def test_a_healthy_model_is_in_order(doctor: Any, tracking_uri: str, make_student: Any) -> None:
    register(make_student(), tracking_uri, "healthy")
    for files in ([], ["--files"]):
        assert doctor("healthy", "--tracking-uri", tracking_uri, *files) == (0, "healthy is in order\n")
    assert examine(tracking_uri, "healthy-teacher") == []


@pytest.mark.usefixtures("client")
def test_an_unknown_model_is_refused(tracking_uri: str) -> None:
    with pytest.raises(InputError, match="no model 'nobody'"):
        examine(tracking_uri, "nobody")


def test_a_run_without_a_version_is_removed_but_not_a_trainings(
    doctor: Any, client: MlflowClient, tracking_uri: str, make_student: Any
) -> None:
    register(make_student(), tracking_uri, "orphaned")
    experiment = client.get_experiment_by_name("orphaned").experiment_id
    tags = run_tags(Student.load(make_student(7)))
    orphan = client.create_run(experiment, tags=tags).info.run_id
    training = client.create_run(experiment, tags={**tags, "training_sha256": "t"}).info.run_id
    client.create_run(experiment, run_name="somebody's notes")
    code, output = doctor("orphaned", "--tracking-uri", tracking_uri)
    assert code == 1
    assert f"run {orphan} of student" in output
    assert training not in output
    assert doctor("orphaned", "--tracking-uri", tracking_uri, "--fix")[0] == 0
    assert client.get_run(orphan).info.lifecycle_stage == "deleted"
    assert client.get_run(training).info.lifecycle_stage == "active"
    assert examine(tracking_uri, "orphaned") == []


def test_a_registration_in_progress_is_left_alone(
    tracking_uri: str, make_student: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(make_student(), tracking_uri, "busy")
    # Only the doctor waits for so short a time: a busy machine may keep a registration from its beats for longer.
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(locks, "PATIENCE_S", 0.5)
    folder, seen = make_student(8), []

    def looked(*_: Any) -> None:
        seen.append(examine(tracking_uri, "busy"))
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_model", looked)
        with pytest.raises(RuntimeError, match="disk full"):
            register(folder, tracking_uri, "busy")
    assert seen == [[]]
    # It failed, and nobody is at it any more.
    assert [finding.what.split()[0] for finding in examine(tracking_uri, "busy")] == ["run"]


def test_a_dead_holders_lock_is_removed(
    client: MlflowClient, tracking_uri: str, make_student: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(make_student(), tracking_uri, "locked")
    monkeypatch.setattr(locks, "PATIENCE_S", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(locks.Lock, "release", lambda self: self._released.set())
        with locked(client, lambda: "locked/1", "a change") as lock:
            assert lock is not None
    (finding,) = examine(tracking_uri, "locked")
    assert finding.what == "a lock whose holder is dead: sidlsg-claims/locked/1.0"
    assert finding.mend is not None
    finding.mend()
    assert examine(tracking_uri, "locked") == []


@pytest.mark.parametrize("files", [False, True])
def test_a_version_without_a_file_is_found(
    doctor: Any, client: MlflowClient, tracking_uri: str, make_student: Any, files: bool
) -> None:
    name = f"broken-{files}".lower()
    version = register(make_student(), tracking_uri, name)
    weights = artifacts(client, version.run_id) / "model/artifacts/student/unet/diffusion_pytorch_model.safetensors"
    weights.unlink()
    (finding,) = examine(tracking_uri, name, files)
    assert "version 1 is not whole" in finding.what
    assert "diffusion_pytorch_model.safetensors" in finding.what
    client.set_registered_model_alias(name, "champion", "1")
    (served,) = examine(tracking_uri, name, files)
    assert served.mend is None
    assert "it is champion: roll back" in served.advice
    client.delete_registered_model_alias(name, "champion")
    assert doctor(name, "--tracking-uri", tracking_uri, "--fix")[0] == 0
    assert client.search_model_versions(f"name = '{name}'") == []
    assert register(make_student(), tracking_uri, name).version == 2
    assert examine(tracking_uri, name, files) == []


def test_a_changed_file_is_found_by_its_digest_alone(
    client: MlflowClient, tracking_uri: str, make_student: Any
) -> None:
    version = register(make_student(), tracking_uri, "changed")
    config = artifacts(client, version.run_id) / "model/artifacts/student/unet/config.json"
    shutil.copyfile(config.parent.parent / "vae" / "config.json", config)
    assert examine(tracking_uri, "changed") == []
    (finding,) = examine(tracking_uri, "changed", files=True)
    assert "unet/config.json has SHA-256" in finding.what


@pytest.mark.parametrize("change", ["code", "added file"])
def test_changed_code_that_serves_a_version_is_found(
    client: MlflowClient, tracking_uri: str, make_student: Any, change: str
) -> None:
    version = register(make_student(), tracking_uri, f"served-{change.replace(' ', '-')}")
    assert examine(tracking_uri, f"served-{change.replace(' ', '-')}", files=True) == []
    model = artifacts(client, version.run_id) / "model"
    file = model / "pyfunc_model.py" if change == "code" else model / "sitecustomize.py"
    file.write_text("print('somebody else')")
    (finding,) = examine(tracking_uri, f"served-{change.replace(' ', '-')}", files=True)
    assert "are not those that were registered with it; they can run any code" in finding.what


def test_a_second_version_of_one_student_is_removed(client: MlflowClient, tracking_uri: str, make_student: Any) -> None:
    version = register(make_student(), tracking_uri, "doubled")
    first = client.get_model_version("doubled", "1")
    client.create_model_version("doubled", first.source, version.run_id, tags=first.tags)
    (finding,) = examine(tracking_uri, "doubled")
    assert finding.what == "version 2 is the same as version 1"
    client.set_registered_model_alias("doubled", "champion", "2")
    assert [each.mend for each in examine(tracking_uri, "doubled")] == [None]


def test_a_run_that_somebody_has_begun_to_use_stays(client: MlflowClient, tracking_uri: str, make_student: Any) -> None:
    register(make_student(), tracking_uri, "taken-up")
    folder = make_student(9)
    experiment = client.get_experiment_by_name("taken-up").experiment_id
    client.create_run(experiment, tags=run_tags(Student.load(folder)))
    (finding,) = examine(tracking_uri, "taken-up")
    version = register(folder, tracking_uri, "taken-up")
    assert finding.mend is not None
    with pytest.raises(InputError, match="is in use now"):
        finding.mend()
    assert client.get_run(version.run_id).info.lifecycle_stage == "active"
