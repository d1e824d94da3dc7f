"""Registering and promoting over bad networks: nothing half done is ever seen under an alias, and all ends well."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from services.faulty import FaultyProxy
from services.verdicts import leave, verdict
from sidlsg.registry import locks
from sidlsg.registry.connection import connect
from sidlsg.registry.doctor import examine
from sidlsg.registry.files import fetch_student
from sidlsg.registry.promotion import promote
from sidlsg.registry.registration import register
from sidlsg.registry.server.mlflow import MlflowServer
from sidlsg.registry.server.stack import ARTIFACTS, Stack
from sidlsg.registry.versions import CHAMPION, STUDENT_TAG, alias_version, find_version
from sidlsg.runtime.errors import SidlsgError
from sidlsg.storage.records import ModelVersion, Student

NAME = "over-bad-networks"
ATTEMPTS = 15
T = TypeVar("T")


@pytest.fixture
def server(servers: Stack, tmp_path: Path) -> Iterator[tuple[MlflowServer, FaultyProxy]]:
    """A second MLflow server on the same database and bucket, and the bad network to that bucket."""
    with FaultyProxy(servers.s3.endpoint, share=0.03, seed=1) as to_s3:
        access = {**servers.s3.client_environment(), "MLFLOW_S3_ENDPOINT_URL": to_s3.address}
        store = servers.mlflow.environment()["MLFLOW_BACKEND_STORE_URI"]
        with MlflowServer(tmp_path / "mlflow", store, f"s3://{ARTIFACTS}", access) as second:
            yield second, to_s3


@pytest.fixture
def students(tiny_student: Path, tmp_path: Path) -> Callable[[int], Path]:
    """Students that differ in their records alone."""

    def make(number: int) -> Path:
        folder = tmp_path / f"student-{number}"
        shutil.copytree(tiny_student, folder, copy_function=os.link)
        record = folder / Student.FILE
        told = json.loads(record.read_text()) | {"seed": number}
        record.unlink()
        record.write_text(json.dumps(told))
        return folder

    return make


@pytest.mark.parametrize("faults", [50, pytest.param(500, marks=pytest.mark.long)])
def test_nothing_half_done_is_seen(
    faults: int,
    servers: Stack,
    server: tuple[MlflowServer, FaultyProxy],
    students: Callable[[int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"TIMEOUT": "2", "MAX_RETRIES": "2", "BACKOFF_FACTOR": "1", "BACKOFF_JITTER": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    # A death is noticed sooner, so that the test is shorter.
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(locks, "PATIENCE_S", 10.0)
    name, direct = f"{NAME}-{faults}", servers.mlflow.address
    (second, to_s3), told = server, Counter[str]()
    client = connect(direct)

    def in_the_end(call: Callable[[], T]) -> T:
        for _ in range(ATTEMPTS):
            try:
                return call()
            except SidlsgError as error:
                # Whatever else it were, a user would see a traceback.
                told[f"{type(error).__name__}: {error}"[:260]] += 1
                assert len(str(error)) > 40
                assert champion_is_whole()
        pytest.fail(f"{ATTEMPTS} attempts in vain: {told}")

    def champion_is_whole() -> bool:
        if not client.search_registered_models(f"name = '{name}'") or alias_version(client, name, CHAMPION) is None:
            return True
        version = find_version(direct, name, CHAMPION)
        fetch_student(version, direct, tmp_path / "champion")
        shutil.rmtree(tmp_path / "champion")
        return True

    champion = None
    with FaultyProxy(second.address, share=0.05, seed=2) as to_mlflow:
        for number in count(1):
            folder = students(number)

            def go(folder: Path = folder) -> ModelVersion:
                return register(folder, to_mlflow.address, name)

            version = in_the_end(go)
            passed = verdict(name, version.version, champion)
            leave(passed, client)
            in_the_end(lambda passed=passed: promote(passed, to_mlflow.address))  # type: ignore[misc]
            assert alias_version(client, name, CHAMPION) == version.version
            champion = version.version
            assert champion_is_whole()
            shutil.rmtree(folder)
            if to_mlflow.faults.total() + to_s3.faults.total() >= faults:
                break
        assert set(to_mlflow.faults) == {"reset", "lost answer", "stall", "500", "truncated"}
    print(f"{number} students; faults: {dict(to_mlflow.faults)}, to S3: {dict(to_s3.faults)}")  # noqa: T201
    print(*(f"{times} times {reason}" for reason, times in told.items()), sep="\n")  # noqa: T201
    for finding in examine(direct, name):
        assert finding.mend is not None, finding.what
        print(finding.what)  # noqa: T201
        finding.mend()
    assert examine(direct, name) == []
    versions = client.search_model_versions(f"name = '{name}'")
    assert len(versions) == len({version.tags[STUDENT_TAG] for version in versions}) == number
