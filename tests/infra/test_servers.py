"""What the manifests start, started here: SeaweedFS, the buckets, MLflow and the triggers service."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.fernet import Fernet
from mlflow import MlflowClient

from infra.cluster import INFRA, Object, get, rendered
from infra.containers import Contained, command_line, environment
from infra.page import yours
from sidlsg.registry.server.postgres import Postgres, _program
from sidlsg.registry.server.process import HOST, free_port, free_ports

USERS = ("backups", "buckets", "mlflow", "serving", "triggers")
"""Of the S3 server, besides pipeline steps."""
BUCKETS = ["backups", "data", "mlflow", "pipelines", "serving"]


PATH = {"PATH": os.defpath}


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return rendered("local")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # PostgreSQL's own user must be able to enter the folder, where the tests run as root.
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o711)
        yield Path(temporary)


def container(objects: list[Object], kind: str, name: str, which: str = "containers") -> Object:
    found: Object = get(objects, kind, name)["spec"]["template"]["spec"][which][0]
    return found


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[Postgres]:
    with Postgres(folder / "postgres") as server:
        server.require_database("mlflow")
        yield server


def test_postgres_takes_the_manifests_options_and_answers_its_probe(
    postgres: Postgres, folder: Path, objects: list[Object]
) -> None:
    own = container(objects, "StatefulSet", "postgres")
    (options,) = [one["value"] for one in own["env"] if one["name"] == "POSTGRES_INITDB_ARGS"]
    (folder / "initdb").mkdir()
    user = postgres.runs_as()
    if user is not None:
        shutil.chown(folder / "initdb", user, user)
    made = subprocess.run(
        [_program("initdb"), *options.split(), "--pgdata", str(folder / "initdb")],
        capture_output=True,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        cwd="/",
    )
    assert made.returncode == 0, made.stderr
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = own[probe]["exec"]["command"]
        here = {"PATH": os.environ["PATH"], "PGPORT": str(postgres.port), "POSTGRES_USER": "mlflow"}
        assert subprocess.run(command, env=here).returncode == 0
        assert subprocess.run(command, env=here | {"PGPORT": "1"}).returncode != 0


@pytest.fixture(scope="module")
def given(postgres: Postgres) -> dict[str, dict[str, str]]:
    """The secrets, with the keys that the page names."""
    values = {
        **{
            f"sidlsg-s3{user}": {
                "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
                "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            }
            for user in ("", *(f"-{user}" for user in USERS))
        },
        "sidlsg-postgres": {"MLFLOW_BACKEND_STORE_URI": postgres.url("mlflow")},
        "sidlsg-webhook": {"SIDLSG_WEBHOOK_SECRET": secrets.token_hex(16)},
        "sidlsg-mlflow-server": {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode()},
    }
    for name, own in values.items():
        assert set(own) <= yours()["Secret", name].keys
    return values


@pytest.fixture(scope="module")
def seaweedfs(folder: Path, objects: list[Object], given: Mapping[str, Mapping[str, str]]) -> Iterator[Contained]:
    own = container(objects, "StatefulSet", "seaweedfs")
    # Its other ports have fixed numbers in the pod; here others may have them.
    names = [f"{part}.port" for part in ("master", "volume", "filer", "admin")]
    names += [f"{part}.port.grpc" for part in ("s3", "master", "volume", "filer", "admin")]
    more = tuple(f"-{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True))
    first = container(objects, "StatefulSet", "seaweedfs", "initContainers")
    scripts = {"/etc/sidlsg": str(INFRA / "base" / "seaweedfs"), "/etc/seaweedfs": str(folder / "s3")}
    (folder / "s3").mkdir()
    variables = environment(first, objects, given)
    # The program looks for its own keys in the folder that it starts in, too.
    subprocess.run(["/bin/sh", *command_line(first, variables, scripts)[1:]], env=variables | PATH, check=True)
    assert (folder / "s3" / "s3.json").stat().st_mode & 0o077 == 0
    changes = {
        "/etc/seaweedfs": "{folder}",
        "-dir=/data": "-dir={folder}/data",
        "-ip.bind=0.0.0.0": f"-ip.bind={HOST}",
        "-s3.port=8333": "-s3.port={port}",
    }
    with Contained(folder / "s3", own, environment(own, objects, given), changes, more=more) as server:
        yield server


def s3_client(server: Contained, keys: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{server.port}",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def buckets(seaweedfs: Contained, objects: list[Object], given: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What the Job prints that makes the buckets, run twice."""
    own = container(objects, "Job", "buckets")
    variables = environment(own, objects, given) | {"AWS_ENDPOINT_URL_S3": f"http://{HOST}:{seaweedfs.port}"}
    line = command_line(own, variables, {"/etc/sidlsg": str(INFRA / "base" / "seaweedfs")})
    runs = [
        subprocess.run(line, env={**variables, "PATH": os.defpath}, capture_output=True, text=True) for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs
    return [run.stdout for run in runs]


def test_the_buckets_are_made_once(seaweedfs: Contained, buckets: list[str], given: dict[str, dict[str, str]]) -> None:
    assert buckets == ["made mlflow, data, pipelines, serving, backups\n", "made none\n"]
    client = s3_client(seaweedfs, given["sidlsg-s3-buckets"])
    assert sorted(bucket["Name"] for bucket in client.list_buckets()["Buckets"]) == BUCKETS
    for name in BUCKETS:
        client.put_object(Bucket=name, Key="x", Body=b"1")
        client.delete_object(Bucket=name, Key="x")


@pytest.mark.usefixtures("buckets")
def test_s3_refuses_strangers_and_mistyped_buckets(seaweedfs: Contained, given: dict[str, dict[str, str]]) -> None:
    wrong = {**given["sidlsg-s3-buckets"], "AWS_SECRET_ACCESS_KEY": "wrong"}
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3_client(seaweedfs, wrong).list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        s3_client(seaweedfs, given["sidlsg-s3-buckets"]).put_object(Bucket="mlfow", Key="x", Body=b"1")
    assert seaweedfs.answer("/data/x")[0] == 403


RIGHTS: dict[str, tuple[set[str], set[str]]] = {
    "sidlsg-s3": (
        {"data/captions/a", "data/checkpoints/r/a", "data/work/a", "data/handover/a", "pipelines/artifacts/a"},
        {"data/checkpoints/r/a", "data/work/a", "data/handover/a", "pipelines/artifacts/a"},
    ),
    "sidlsg-s3-mlflow": ({"mlflow/artifacts/1/a"}, {"mlflow/artifacts/1/a"}),
    "sidlsg-s3-triggers": (
        {"serving/students/m/a", "data/captions/a", "data/checkpoints/r/a", "data/work/a", "data/handover/a"},
        {"serving/students/m/a"},
    ),
    "sidlsg-s3-backups": ({"backups/postgres/a"}, {"backups/postgres/a"}),
    "sidlsg-s3-serving": ({"serving/students/m/a"}, set()),
}
"""What each user may read, and write and delete, of OBJECTS."""
OBJECTS = {name for reads, writes in RIGHTS.values() for name in reads | writes} | {
    "mlflow/other/a",
    "backups/other/a",
    "serving/other/a",
}


@pytest.mark.usefixtures("buckets")
@pytest.mark.parametrize("user", RIGHTS)
def test_each_user_of_s3_may_do_what_it_needs_alone(
    seaweedfs: Contained, given: dict[str, dict[str, str]], user: str
) -> None:
    owner, own = (s3_client(seaweedfs, given[name]) for name in ("sidlsg-s3-buckets", user))
    found: dict[str, set[str]] = {"get": set(), "put": set(), "delete": set()}
    for name in OBJECTS:
        bucket, _, key = name.partition("/")
        owner.put_object(Bucket=bucket, Key=key, Body=b"1")
        for what, more in (("get", {}), ("put", {"Body": b"2"}), ("delete", {})):
            try:
                getattr(own, f"{what}_object")(Bucket=bucket, Key=key, **more)
                found[what].add(name)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "AccessDenied", (what, name)
    reads, writes = RIGHTS[user]
    assert found == {"get": reads, "put": writes, "delete": writes}
    with pytest.raises(ClientError, match="AccessDenied"):
        own.create_bucket(Bucket=f"of-{user}")


def test_without_a_key_the_s3_server_does_not_start(objects: list[Object], tmp_path: Path) -> None:
    first = container(objects, "StatefulSet", "seaweedfs", "initContainers")
    scripts = {"/etc/sidlsg": str(INFRA / "base" / "seaweedfs"), "/etc/seaweedfs": str(tmp_path)}
    given = {f"sidlsg-s3{user}": {} for user in ("", *(f"-{user}" for user in USERS))}
    for keys in ({}, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": 'b"c'}):
        variables = environment(first, objects, given | {"sidlsg-s3-buckets": keys})
        line = ["/bin/sh", *command_line(first, variables, scripts)[1:]]
        done = subprocess.run(line, env=variables | PATH, capture_output=True, text=True)
        assert done.returncode == 1
        assert "error: a key of buckets is empty or has other characters" in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_the_parts_of_the_s3_server_give_nothing_by_http(seaweedfs: Contained) -> None:
    found = (re.fullmatch(r"-(\w+)\.port=(\d+)", word) for word in seaweedfs.command())
    ports = {each[1]: int(each[2]) for each in found if each is not None}
    for part in ("master", "filer", "admin"):
        asked = f"http://{HOST}:{ports[part]}/buckets/data/x"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(asked, timeout=30)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://{HOST}:{ports['volume']}/1,01637037d6", timeout=30)


@pytest.fixture(scope="module")
def mlflow(
    folder: Path,
    objects: list[Object],
    given: Mapping[str, Mapping[str, str]],
    seaweedfs: Contained,
    buckets: list[str],
) -> Iterator[Contained]:
    assert buckets
    own = container(objects, "Deployment", "mlflow")
    variables = environment(own, objects, given)
    assert variables["MLFLOW_S3_ENDPOINT_URL"] == "http://seaweedfs.sidlsg:8333"
    variables["MLFLOW_S3_ENDPOINT_URL"] = f"http://{HOST}:{seaweedfs.port}"
    changes = {"--host=0.0.0.0": f"--host={HOST}", "--port=5000": "--port={port}", "--workers=2": "--workers=1"}
    with Contained(folder / "mlflow", own, variables, changes) as server:
        yield server


def test_mlflow_answers_those_that_the_manifest_names(mlflow: Contained) -> None:
    asked = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for host in ("mlflow", "mlflow.sidlsg:5000", "mlflow.sidlsg.svc", "localhost:5000", "127.0.0.1:5000"):
        assert mlflow.answer(asked, host)[0] == 200, host
    assert mlflow.answer(asked, "evil.example.com")[0] == 403
    # The kubelet's probe asks the pod's own address.
    assert mlflow.answer("/health", "10.1.2.3:5000")[0] == 200


def test_mlflow_keeps_artifacts_in_the_bucket(
    mlflow: Contained, seaweedfs: Contained, given: dict[str, dict[str, str]]
) -> None:
    client = MlflowClient(f"http://{HOST}:{mlflow.port}")
    run = client.create_run(client.create_experiment("things"))
    client.log_text(run.info.run_id, "hello", "hello.txt")
    # As MLflow itself sees it.
    own = s3_client(seaweedfs, given["sidlsg-s3-mlflow"])
    found = own.list_objects_v2(Bucket="mlflow", Prefix="artifacts/")["Contents"]
    assert [one["Key"].partition("/")[0] for one in found if one["Key"].endswith("hello.txt")] == ["artifacts"]


def test_the_triggers_service_tells_mlflow_and_serves(
    mlflow: Contained, folder: Path, objects: list[Object], given: Mapping[str, Mapping[str, str]]
) -> None:
    first = container(objects, "Deployment", "triggers", "initContainers")
    variables = environment(first, objects, given) | {"MLFLOW_TRACKING_URI": f"http://{HOST}:{mlflow.port}"}
    table = {"/etc/sidlsg": str(INFRA / "base" / "triggers")}
    line = command_line(first, variables, table)
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    done = subprocess.run(line, env={**variables, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    webhooks = MlflowClient(f"http://{HOST}:{mlflow.port}").list_webhooks()
    assert [webhook.url for webhook in webhooks] == ["http://triggers.sidlsg:8080/webhooks/mlflow"]

    own = container(objects, "Deployment", "triggers")
    closed = free_port()
    changes = {
        **table,
        "/srv/triggers": "{folder}/state",
        "--address=0.0.0.0": f"--address={HOST}",
        "--port=8080": "--port={port}",
        "http://ml-pipeline.kubeflow:8888": f"http://{HOST}:{closed}",
    }
    with Contained(folder / "triggers", own, variables, changes, probe="livenessProbe") as server:
        # No Kubeflow is here: not ready, and yet alive.
        status, why = server.answer(own["readinessProbe"]["httpGet"]["path"])
        assert status == 503 and "kubeflow" in why and "mlflow" not in why
        assert "sidlsg_triggers_last_look_timestamp_seconds" in server.answer("/metrics")[1]
        server.stop()
        assert '"ended"' in (folder / "triggers" / "log").read_text()
