"""`sidlsg submit` and `sidlsg schedule` as users run them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from forked import Program
from services.kfp_server import KfpServer
from services.test_schedule import TABLE
from services.test_submit import YAML
from sidlsg.kubeflow.server.connection import ServerTimeouts

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    """A server whose runs end as soon as they are looked at, and that found nothing wrong."""
    with KfpServer() as server:
        server.states = ["PENDING", "SUCCEEDED"]
        yield server
        assert not server.wrong


@pytest.fixture
def sidlsg(sidlsg: Run) -> Run:
    """The command line, in a folder that holds tiny.yaml."""
    Path("tiny.yaml").write_text(YAML)
    return sidlsg


def submit(host: str, *options: str) -> list[str]:
    return ["submit", "--host", host, "--pipeline", "tiny.yaml", *options]


def test_a_run_is_waited_for(sidlsg: Run, kfp: KfpServer) -> None:
    code, out, err = sidlsg(*submit(kfp.host, "--set", "seed=3", "--wait"))
    assert (code, err) == (0, "")
    (run,) = kfp.runs
    assert run["runtime_config"]["parameters"] == {"seed": 3}
    assert out.splitlines() == [
        f"run {run['display_name']} of tiny, version {kfp.lists['versions'][0]['name']}, in experiment sidlsg",
        f"{kfp.host}/#/runs/details/{run['run_id']}",
        "distil: succeeded",
        "run: succeeded",
    ]
    code, out, _ = sidlsg(*submit(kfp.host, "--set", "seed=3"))
    assert code == 0
    assert "exists already, succeeded: no second run was started" in out
    assert len(kfp.runs) == 1
    sidlsg(*submit(kfp.host, "--set", "seed=3", "--name", "again"))
    assert len(kfp.runs) == 2


def test_a_failed_run_is_exit_code_5_and_names_its_stage(sidlsg: Run, kfp: KfpServer) -> None:
    kfp.states = ["PENDING", "FAILED"]
    code, _, err = sidlsg(*submit(kfp.host, "--name", "bad", "--wait"))
    assert code == 5
    assert f"the run bad failed in distil (out of memory): {kfp.host}/#/runs/details/" in err


def test_a_cancelled_run_is_exit_code_5(sidlsg: Run, kfp: KfpServer) -> None:
    kfp.states = ["PENDING", "CANCELED"]
    code, _, err = sidlsg(*submit(kfp.host, "--name", "bad", "--wait"))
    assert code == 5
    assert "the run bad was cancelled" in err


def test_waiting_has_a_limit(sidlsg: Run, kfp: KfpServer) -> None:
    kfp.states = ["PENDING", "RUNNING"]
    began = time.monotonic()
    code, out, err = sidlsg(*submit(kfp.host, "--wait", "--wait-seconds", "0.2"))
    assert code == 75
    assert "distil: running" in out
    assert "the run has not ended within 0.2 seconds, and continues" in err
    assert time.monotonic() - began < 4
    assert sidlsg(*submit(kfp.host, "--wait-seconds", "1"))[0] == 2


def test_an_interrupt_ends_the_waiting_and_not_the_run(kfp: KfpServer, tmp_path: Path) -> None:
    kfp.states = ["PENDING", "RUNNING"]
    (tmp_path / "tiny.yaml").write_text(YAML)
    command = submit(kfp.host, "--wait")
    with Program(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stderr
            while (line := process.stdout.readline()) and line != "run: running\n":
                pass
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 75
            assert "the run continues" in process.stderr.read()
        finally:
            process.kill()
    assert [run["state"] for run in kfp.runs] == ["RUNNING"]


def test_a_dry_run_changes_nothing(sidlsg: Run, kfp: KfpServer) -> None:
    code, out, _ = sidlsg(*submit(kfp.host, "--dry-run", "--name", "one"))
    assert code == 0
    assert "would upload version sha256-" in out
    assert "would start run one in experiment sidlsg with {}" in out
    assert {request.split()[0] for request in kfp.requests} == {"GET"}
    sidlsg(*submit(kfp.host, "--name", "one"))
    assert "would start nothing: run one exists already" in sidlsg(*submit(kfp.host, "--dry-run", "--name", "one"))[1]
    assert "would use version sha256-" in sidlsg(*submit(kfp.host, "--dry-run", "--name", "two"))[1]


@pytest.mark.parametrize("way", ["--token-env", "--token-file", "--service-account"])
def test_every_way_to_sign_in_works(sidlsg: Run, kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    kfp.token = "secret-right"
    Path("token").write_text("secret-right\n")
    monkeypatch.setenv("KFP_TOKEN", "secret-right")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(Path("token").absolute()))
    options = {"--token-env": ["KFP_TOKEN"], "--token-file": ["token"], "--service-account": []}[way]
    code, out, err = sidlsg(*submit(kfp.host, way, *options, "--wait"))
    assert (code, err) == (0, "")
    assert "secret" not in out


def test_a_wrong_token_is_refused_and_not_shown(sidlsg: Run, kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.token = "secret-right"
    monkeypatch.setenv("KFP_TOKEN", "secret-wrong")
    for options in ([], ["--token-env", "KFP_TOKEN"]):
        code, out, err = sidlsg(*submit(kfp.host, *options))
        assert code == 2
        assert "refused to answer (HTTP 401: unauthenticated); give a token that may" in err
        assert "secret" not in out + err
    assert kfp.runs == []


def test_a_pod_without_a_mounted_token_is_told(sidlsg: Run, kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/nowhere/token")
    code, _, err = sidlsg(*submit(kfp.host, "--service-account"))
    assert code == 2
    assert "no service account token at /nowhere/token; mount it as docs/kubeflow.md says" in err
    assert kfp.requests == []


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        ("localhost:8888", [], "'localhost:8888' is not an address"),
        ("http://me:secret@localhost:1", [], "the host holds a user or a password"),
        ("http://localhost:1", ["--token-env", "UNSET"], "variable UNSET holds no token"),
        ("http://localhost:1", ["--token-file", "none"], "token file none cannot be read: No such file"),
        ("http://localhost:1", ["--token-env", "PATH", "--service-account"], "several ways to sign in"),
        ("http://localhost:1", ["--set", "seed=x"], "parameter seed is 'x'; it must be a whole number"),
        ("http://localhost:1", ["--set", "sed=1"], "has no parameter 'sed' (did you mean 'seed'?)"),
    ],
)
def test_wrong_input_is_one_line(sidlsg: Run, host: str, options: list[str], said: str) -> None:
    code, out, err = sidlsg(*submit(host, *options))
    assert (code, out) == (2, "")
    assert said in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_no_server_is_told(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidlsg.kubeflow.server.connection.ServerTimeouts", partial(ServerTimeouts, total=0.5))
    code, _, err = sidlsg(*submit("http://127.0.0.1:1"))
    assert code == 1
    assert "Kubeflow Pipelines at 127.0.0.1:1 did not answer (NewConnectionError)" in err


@pytest.mark.parametrize("pipeline", ["distil_and_evaluate", "sweep", "evaluate_only"])
def test_the_pipelines_of_this_package_are_taken(
    sidlsg: Run, kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, pipeline: str
) -> None:
    monkeypatch.setenv("SIDLSG_IMAGE", f"registry.example/sidlsg@sha256:{'0' * 64}")
    code, _, err = sidlsg("compile", "--pipeline", pipeline, "--output", "compiled.yaml")
    assert (code, err) == (0, "")
    spec = next(yaml.safe_load_all(Path("compiled.yaml").read_text()))
    required = [
        f"{name}={'{}' if each['parameterType'] == 'STRUCT' else '[]' if each['parameterType'] == 'LIST' else 'x'}"
        for name, each in spec["root"]["inputDefinitions"]["parameters"].items()
        if "defaultValue" not in each and not each.get("isOptional")
    ]
    options = [option for each in required for option in ("--set", each)]
    for given in (pipeline, "compiled.yaml"):
        code, _, err = sidlsg("submit", "--host", kfp.host, "--pipeline", given, *options)
        assert (code, err) == (0, "")
    assert len(kfp.runs) == len(kfp.lists["versions"]) == 1
    assert kfp.lists["pipelines"][0]["display_name"] == pipeline.replace("_", "-")


def test_a_schedule_is_shown_and_then_made(sidlsg: Run, kfp: KfpServer) -> None:
    table = TABLE.format(name="nightly", seed=1, enabled="true")
    Path("schedules.toml").write_text(f'experiment = "nights"\n{table}')
    command = ["schedule", "--host", kfp.host, "--file", "schedules.toml"]
    shown = "create     nightly  0 0 3 * * mon\n"
    assert sidlsg(*command) == (0, f"{shown}nothing was changed; --apply makes these changes\n", "")
    assert {request.split()[0] for request in kfp.requests} == {"GET"}
    assert sidlsg(*command, "--apply") == (0, f"{shown}done: create: nightly\n", "")
    assert [each["status"] for each in kfp.lists["recurringruns"]] == ["ENABLED"]
    code, out, _ = sidlsg(*command, "--apply")
    assert (code, out) == (0, "unchanged  nightly  0 0 3 * * mon\n")
    Path("schedules.toml").write_text('experiment = "nights"')
    assert sidlsg(*command, "--apply") == (0, "delete     nightly\ndone: delete: nightly\n", "")
    assert kfp.lists["recurringruns"] == []


def test_a_wrong_schedule_file_is_told_before_anything_is_sent(sidlsg: Run, kfp: KfpServer) -> None:
    Path("schedules.toml").write_text(f'experiment = "nights"\n{TABLE.format(name="n", seed=1, enabled=1)}')
    code, _, err = sidlsg("schedule", "--host", kfp.host, "--file", "schedules.toml", "--apply")
    assert code == 2
    assert "schedules.toml: [[schedule]] 'n': enabled is 1; give true or false" in err
    assert kfp.requests == []
