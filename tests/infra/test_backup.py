"""The backup's scripts on a real PostgreSQL and a real S3 server, in the order in which the CronJob runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from sqlalchemy import create_engine, text

from infra.cluster import INFRA, get, kustomize, parsed, pods, rendered, words
from sidlsg.registry.server.postgres import USER, Postgres
from sidlsg.registry.server.process import HOST

SCRIPTS = INFRA / "base" / "postgres"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    # PostgreSQL's own user must be able to enter the folder, where the tests run as root.
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o711)
        with Postgres(Path(temporary) / "postgres") as server:
            yield server


class Database:
    """One database, its backups' folder and place, and the three programs."""

    def __init__(self, server: Postgres, name: str, folder: Path, place: str) -> None:
        server.require_database(name)
        self.engine = create_engine(server.url(name))
        self.folder, self.bucket = folder, place.removeprefix("s3://")
        self.s3: Any = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
        self.environment = {
            **{key: value for key, value in os.environ.items() if key.startswith("AWS_") or key == "PATH"},
            "PGHOST": HOST,
            "PGPORT": str(server.port),
            "PGUSER": USER,
            "PGPASSWORD": server.state["password"],
            "PGDATABASE": name,
            "BACKUP_FOLDER": str(folder),
            "BACKUP_PLACE": f"{place}/postgres",
            "BACKUPS_KEPT": "3",
            "BACKUP_NAME": "",
        }

    def sql(self, *statements: str) -> list[Any]:
        with self.engine.begin() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return results[-1].all() if results[-1].returns_rows else []

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        # As a user that the system does not know, like that of the pod; it may not enter this Python's folder.
        user = 10001 if os.geteuid() == 0 and command[0] == "sh" else None
        return subprocess.run(
            command,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd="/",
        )

    def dump(self, **changes: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", str(self.folder / "scripts/dump.sh"), **changes)

    def store(self, **changes: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, str(self.folder / "scripts/backups.py"), "store", **changes)

    def fetch(self, **changes: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, str(self.folder / "scripts/backups.py"), "fetch", **changes)

    def restore(self, **changes: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", str(self.folder / "scripts/restore.sh"), **changes)

    def dumps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.dump") if not path.name.startswith("."))

    def stored(self) -> list[str]:
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def put(self, name: str) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=f"postgres/{name}", Body=b"an earlier one")


@pytest.fixture
def database(postgres: Postgres, s3_place: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with a table of 500 rows, and one of none."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "backup"
        (folder / "scripts").mkdir(parents=True)
        for script in SCRIPTS.glob("*.[ps][yh]"):
            (folder / "scripts" / script.name).write_bytes(script.read_bytes())
        for path in (Path(temporary), folder):
            path.chmod(0o777)
        made = Database(postgres, request.node.name.replace("test_", "")[:50], folder, s3_place)
        made.sql(
            "CREATE TABLE runs (id int PRIMARY KEY, name text)",
            "INSERT INTO runs SELECT n, 'run ' || n FROM generate_series(1, 500) AS n",
            "CREATE TABLE empty (id int)",
        )
        yield made
        made.engine.dispose()


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backup_brings_everything_back(database: Database) -> None:
    assert "2 tables" in good(database.dump())
    (dump,) = database.dumps()
    assert dump.stat().st_mode & 0o077 == 0
    assert dump.name in good(database.store())
    assert database.stored() == [f"postgres/{dump.name}"]
    dump.unlink()

    database.sql("DELETE FROM runs WHERE id > 10", "UPDATE runs SET name = 'changed'", "DROP TABLE empty")
    assert dump.name in good(database.fetch())
    good(database.restore())
    assert database.sql("SELECT count(*), min(name), max(id) FROM runs") == [(500, "run 1", 500)]
    assert database.sql("SELECT count(*) FROM empty") == [(0,)]


def test_the_oldest_go_when_the_newest_is_there(database: Database) -> None:
    name = database.environment["PGDATABASE"]
    for day in range(1, 6):
        database.put(f"{name}-2020010{day}T000000Z.dump")
    database.put("notes.txt")
    good(database.dump())
    good(database.store())
    new = database.dumps()[0].name
    kept = [f"{name}-20200104T000000Z.dump", f"{name}-20200105T000000Z.dump", new]
    assert database.stored() == sorted(f"postgres/{one}" for one in ["notes.txt", *kept])


def test_a_name_from_the_future_neither_stays_for_ever_nor_costs_the_newest(database: Database) -> None:
    """As after a clock was wrong: what counts is when the server got it."""
    name = database.environment["PGDATABASE"]
    database.put(f"{name}-20990101T000000Z.dump")
    good(database.dump())
    new = good(database.store(BACKUPS_KEPT="1")).split()[-1]
    assert [place for place in database.stored() if place.endswith(".dump")] == [f"postgres/{new}"]


def test_a_dump_of_nothing_is_none(database: Database) -> None:
    database.sql("DROP TABLE runs", "DROP TABLE empty")
    done = database.dump()
    assert done.returncode != 0 and "has no tables" in done.stderr
    assert database.dumps() == []


def test_a_server_that_is_away_costs_no_backup(database: Database) -> None:
    database.put("old-20200101T000000Z.dump")
    assert database.dump(PGPORT="1").returncode != 0
    assert database.dumps() == []
    done = database.store()
    assert done.returncode != 0 and "0 dumps" in done.stderr
    assert database.stored() == ["postgres/old-20200101T000000Z.dump"]


def test_what_a_killed_dump_left_is_no_backup(database: Database) -> None:
    (database.folder / ".half-20200101T000000Z.dump").write_bytes(b"PGDMP")
    assert "0 dumps" in database.store().stderr
    good(database.dump())
    # Those with a dot in front, too.
    assert list(database.folder.glob("*.dump")) == database.dumps() != []


def test_a_damaged_object_is_not_restored(database: Database) -> None:
    good(database.dump())
    good(database.store())
    name = database.dumps()[0].name
    database.dumps()[0].unlink()
    key = f"postgres/{name}"
    metadata = database.s3.head_object(Bucket=database.bucket, Key=key)["Metadata"]
    database.s3.put_object(Bucket=database.bucket, Key=key, Body=b"something else", Metadata=metadata)
    done = database.fetch()
    assert done.returncode != 0 and "is damaged" in done.stderr
    assert database.dumps() == []
    done = database.fetch(BACKUP_NAME="another.dump")
    assert "no backup 'another.dump'" in done.stderr and name in done.stderr


def test_a_restore_that_fails_changes_nothing(database: Database) -> None:
    assert "not one dump" in database.restore().stderr
    good(database.dump())
    (dump,) = database.dumps()
    content = dump.read_bytes()
    dump.write_bytes(content[: len(content) - 200])
    database.sql("DELETE FROM runs WHERE id > 10")
    assert database.restore().returncode != 0
    assert database.sql("SELECT count(*) FROM runs") == [(10,)]


@pytest.mark.parametrize(("kept", "message"), [("0", "give 1 or more"), ("-3", "give 1 or more")])
def test_to_keep_none_is_refused(database: Database, kept: str, message: str) -> None:
    assert message in database.store(BACKUPS_KEPT=kept).stderr


def test_a_key_that_s3_refuses_fails_the_backup(database: Database) -> None:
    good(database.dump())
    assert database.store(AWS_SECRET_ACCESS_KEY="wrong").returncode != 0
    assert database.stored() == []


def test_the_manifests_call_the_scripts_with_all_they_read() -> None:
    objects = rendered("local") + parsed(kustomize(INFRA / "restore"))
    scripts = get(objects, "ConfigMap", "postgres-backup")["data"]
    for name, content in scripts.items():
        assert content == (SCRIPTS / name).read_text()
    order = []
    for pod in (pod for pod in pods(objects) if pod.labels["app.kubernetes.io/name"] == "postgres-backup"):
        for container in pod.containers:
            order.append(words(container)[1:])
            script = scripts[Path(words(container)[1]).name]
            names = {variable["name"] for variable in container["env"]}
            needed = {name for name in ("BACKUP_FOLDER", "PGDATABASE") if name in script}
            needed |= {"BACKUP_PLACE"} if "backups.py" in words(container)[1] else {"PGHOST", "PGUSER", "PGPASSWORD"}
            assert needed <= names
    folder = "/etc/sidlsg"
    assert order == [
        [f"{folder}/dump.sh"],
        [f"{folder}/backups.py", "store"],
        [f"{folder}/backups.py", "fetch"],
        [f"{folder}/restore.sh"],
    ]
