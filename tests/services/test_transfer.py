"""From staging to production: an MLflow server on PostgreSQL and S3, and another registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sidlsg.registry.connection import connect
from sidlsg.registry.doctor import examine
from sidlsg.registry.gate_rules import Better, Floor, GateRules
from sidlsg.registry.registration import register
from sidlsg.registry.server.mlflow import MlflowServer
from sidlsg.registry.server.stack import ARTIFACTS, Stack
from sidlsg.registry.versions import CHAMPION, alias_version
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate import gate, transfer
from sidlsg.storage.records import Score, Scorecard, Student, SubjectScores, file_ref

SUBJECT, SCORE = "student 1 step", "accuracy"
RULES = GateRules(
    floors=(Floor(subject=SUBJECT, score=SCORE, limit=0.8),), better=(Better(subject=SUBJECT, score=SCORE),)
)


@pytest.fixture(params=["a SQLite store", pytest.param("a server", marks=pytest.mark.long)])
def production(request: pytest.FixtureRequest, servers: Stack, tmp_path: Path) -> Iterator[str]:
    """The address of a registry with nothing in it."""
    if request.param == "a SQLite store":
        yield f"sqlite:///{tmp_path}/production/mlflow.db"
        return
    servers.postgres.require_database("production")
    servers.s3.require_bucket("production")
    access = {**servers.s3.client_environment(), "MLFLOW_S3_ENDPOINT_URL": servers.s3.endpoint}
    server = MlflowServer(tmp_path / "server", servers.postgres.url("production"), "s3://production", access)
    try:
        server.start()
        yield server.address
    finally:
        server.kill()


@pytest.fixture
def scorecard(tiny_student: Path, tmp_path: Path) -> Path:
    """Of the bundled student; the numbers do not matter here."""
    folder = tmp_path / "scorecard"
    grid = folder / "grids" / f"{SUBJECT}.png"
    grid.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(grid)
    protocol = {"protocol": "judge/attributes", "n": 2000, "reference_digest": "r", "higher_is_better": True}
    score = Score(name=SCORE, value=0.9, interval=(0.89, 0.91), **protocol)
    student = Student.load(tiny_student)
    Scorecard(
        student_sha256=student.digest,
        teacher_sha256=student.teacher_sha256,
        package_sha256=student.package_sha256,
        subjects=(SubjectScores(subject=SUBJECT, steps=1, guidance_scale=0.0, scores=(score,)),),
        grids=(file_ref(grid, folder),),
        grid_prompts=("a small red circle on a blue background",),
        reused=(),
        seconds=1.0,
    ).save(folder)
    return folder


def test_from_staging_to_production(
    servers: Stack, production: str, tiny_student: Path, scorecard: Path, request: pytest.FixtureRequest
) -> None:
    staging, name = servers.mlflow.address, "staged-" + re.sub(r"\W", "-", request.node.name)
    version = register(tiny_student, staging, name)
    assert gate(version, scorecard, staging, RULES).passed
    run = connect(staging).get_run(version.run_id)

    # One byte of the weights changes in the bucket, and back.
    s3 = servers.s3.client()
    place = run.info.artifact_uri.partition(":/")[2].lstrip("/")
    (key,) = [
        found["Key"]
        for found in s3.list_objects_v2(Bucket=ARTIFACTS, Prefix=f"{place}/model/artifacts/student/unet/")["Contents"]
        if found["Key"].endswith(".safetensors")
    ]
    weights = s3.get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()
    changed = bytearray(weights)
    changed[-1] ^= 1
    s3.put_object(Bucket=ARTIFACTS, Key=key, Body=bytes(changed))
    with pytest.raises(InputError, match="changed or damaged"):
        transfer(staging, name, str(version.version), production)
    assert list(connect(production, create=True).search_registered_models()) == []
    s3.put_object(Bucket=ARTIFACTS, Key=key, Body=weights)

    done = transfer(staging, name, str(version.version), production)
    assert done.promotion.champion_version == 1
    assert alias_version(connect(production), name, CHAMPION) == 1
    assert alias_version(connect(staging), name, CHAMPION) is None
    tags = connect(production).get_model_version(name, "1").tags
    (said,) = [value for key, value in tags.items() if key.startswith("transfer.")]
    assert said.startswith(f"from {name} version {version.version} at {staging}, ")
    assert list(examine(production, name, files=True)) == []
    assert not transfer(staging, name, str(version.version), production).promotion.changed

    with pytest.raises(InputError, match="is in already"):
        transfer(staging, name, "1", staging.replace("127.0.0.1", "localhost"), f"{name}-again")
