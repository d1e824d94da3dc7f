"""MLflow on PostgreSQL with artifacts on SeaweedFS, as `sidlsg services` starts them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from forked import run
from sidlsg.registry.server.postgres import Postgres
from sidlsg.registry.server.stack import ARTIFACTS, Stack
from sidlsg.runtime.errors import InputError, SidlsgError

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter, where the tests run as root."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o711)
        yield Path(temporary) / "services"
        stack = Stack(Path(temporary) / "services")
        for server in stack.servers():
            server.kill()


@pytest.fixture(scope="module")
def command(folder: Path) -> Command:
    def command(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return run(["services", name, "--folder", str(folder), *options])

    return command


@pytest.fixture
def stack(folder: Path, command: Command) -> Stack:
    """Servers that the command started, and that outlived it."""
    if not folder.is_dir():
        done = command("start")
        assert done.returncode == 0, done.stderr
    return Stack(folder)


def artifact(stack: Stack, text: str, tmp_path: Path) -> tuple[str, list[str]]:
    """Log a file as any client does, without access to the S3 server; and what is in MLflow's bucket then."""
    client = MlflowClient(stack.mlflow.address)
    experiment = client.get_experiment_by_name("things")
    identity = experiment.experiment_id if experiment else client.create_experiment("things")
    run = client.create_run(identity)
    (tmp_path / "a.txt").write_text(text)
    client.log_artifact(run.info.run_id, str(tmp_path / "a.txt"))
    found = stack.s3.client().list_objects_v2(Bucket=ARTIFACTS).get("Contents", [])
    return run.info.run_id, [entry["Key"] for entry in found]


def test_everything_lies_where_it_should_and_outlives_a_stop(
    stack: Stack, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    run, keys = artifact(stack, "one", tmp_path)
    assert [key for key in keys if run in key and key.endswith("/a.txt")]
    assert command("status").returncode == 0
    address, pids = stack.mlflow.address, [server.pid for server in stack.servers()]
    # A second start finds all of it.
    assert command("start").returncode == 0
    assert [server.pid for server in Stack(stack.folder).servers()] == pids
    stopped = command("stop")
    assert stopped.stdout.count("does not run") == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)
    status = command("status")
    assert status.returncode == 1
    assert "sidlsg services start" in status.stderr
    assert command("start").returncode == 0
    assert Stack(stack.folder).mlflow.address == address
    text = MlflowClient(address).download_artifacts(run, "a.txt", str(tmp_path / "got"))
    assert Path(text).read_text() == "one"


@pytest.fixture(autouse=True)
def got(tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()


def test_a_power_cut_loses_nothing(stack: Stack, tmp_path: Path) -> None:
    run, _ = artifact(stack, "two", tmp_path)
    for server in Stack(stack.folder).servers():
        server.kill()
    again = Stack(stack.folder)
    again.start()
    text = MlflowClient(again.mlflow.address).download_artifacts(run, "a.txt", str(tmp_path / "got"))
    assert Path(text).read_text() == "two"


def test_the_environment_is_for_a_shell_and_the_keys_for_the_owner(stack: Stack, command: Command) -> None:
    lines = command("env").stdout.splitlines()
    assert f"export MLFLOW_TRACKING_URI={stack.mlflow.address}" in lines
    shell = subprocess.run(
        ["sh", "-c", 'eval "$1"; echo "$AWS_SECRET_ACCESS_KEY"', "sh", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.strip() == stack.s3.state["secret_key"]
    for server in stack.servers():
        assert (server.folder / "state.json").stat().st_mode & 0o077 == 0
        # Arguments can be read by every user of the machine.
        words = " ".join(psutil.Process(server.pid).cmdline())
        assert not [key for name, key in stack.s3.state.items() if name.endswith("_key") and key in words]
        assert stack.postgres.state["password"] not in words


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "mine").write_text("precious")
    with pytest.raises(InputError, match="holds something else"):
        Stack(tmp_path)
    assert (tmp_path / "postgres" / "data" / "mine").read_text() == "precious"


def test_another_port_while_it_runs_is_refused(stack: Stack, command: Command) -> None:
    refused = command("start", "--port", "9")
    assert refused.returncode == 2
    assert f"MLflow runs on port {stack.mlflow.port}, and not on 9; stop it first" in refused.stderr


def test_a_taken_port_is_named(stack: Stack, tmp_path: Path) -> None:
    other = Postgres(tmp_path / "other")
    other.state["ports"] = {"port": stack.s3.port}
    with pytest.raises(SidlsgError, match=f"PostgreSQL cannot listen on port {stack.s3.port}: another process does"):
        other.start()


def test_where_nothing_was_started(tmp_path: Path) -> None:
    for name in ("stop", "status", "env"):
        done = run(["services", name, "--folder", str(tmp_path / "none")])
        assert done.returncode == 2
        assert "sidlsg services start" in done.stderr
        assert not (tmp_path / "none").exists()


def test_a_number_that_another_process_has_now_is_not_ours(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "one")
    server.state["process"] = {"pid": os.getpid(), "created": 1.0}
    server.save()
    again = Postgres(tmp_path / "one")
    assert not again.is_running
    again.kill()
    assert psutil.pid_exists(os.getpid())
