"""Registrations at once, some killed, on MLflow with PostgreSQL and an S3 server: one version each, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from forked import run
from sidlsg.registry.files import COMPLETE_TAG, fetch_student
from sidlsg.registry.locks import FOLDER
from sidlsg.registry.server.stack import Stack
from sidlsg.registry.versions import STUDENT_TAG, find_version, tagged_versions
from sidlsg.storage.records import Student

RACING = Path(__file__).with_name("racing.py")


@pytest.mark.parametrize(
    ("racers", "rounds"), [(6, 1), pytest.param(16, 20, marks=pytest.mark.long, id="16 processes, 20 times")]
)
def test_of_many_registrations_at_once_one_version_comes(
    servers: Stack, tiny_student: Path, racers: int, rounds: int, tmp_path: Path
) -> None:
    client = MlflowClient(servers.mlflow.address)
    student = Student.load(tiny_student)
    for seed in range(rounds):
        name = f"raced-{racers}-{seed}"
        words = [str(tiny_student), servers.mlflow.address, name, str(racers), str(seed)]
        done = run(words, file=RACING)
        print(done.stdout, end="")  # noqa: T201 - says when the kill came
        assert done.returncode == 0, done.stderr[-3000:]
        # The one that was killed may have been the last to work; the same call again goes on.
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert [found.version for found in tagged_versions(client, name, STUDENT_TAG, student.digest)] == [
            version.version
        ]
        experiment = client.get_experiment_by_name(name).experiment_id
        (tracked,) = client.search_runs([experiment], run_view_type=ViewType.ALL)
        assert tracked.info.run_id == version.run_id
        assert tracked.info.status == "FINISHED"
        assert (tracked.data.tags[STUDENT_TAG], tracked.data.tags[COMPLETE_TAG]) == (student.digest, student.digest)
        left = client.search_experiments(filter_string=f"name LIKE '{FOLDER}/{name}/%'")
        assert len(left) <= 1  # that of the one that was killed
        fetch_student(
            find_version(servers.mlflow.address, name, version.version), servers.mlflow.address, tmp_path / name
        )
        Student.load(tmp_path / name).verify(tmp_path / name)
