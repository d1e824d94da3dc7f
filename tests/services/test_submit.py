"""Runs are started once, whatever happens on the way to the server."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.kfp_server import KfpServer
from sidlsg.errors import InputError, RunFailedError
from sidlsg.trigger.compiled import CompiledPipeline, read_compiled
from sidlsg.trigger.connection import Connection
from sidlsg.trigger.runs import Kubeflow
from sidlsg.trigger.server import Patience, Server
from sidlsg.trigger.submit import submit
from sidlsg.trigger.watch import watch

YAML = """
pipelineInfo: {name: tiny}
root:
  inputDefinitions:
    parameters: {seed: {parameterType: NUMBER_INTEGER, defaultValue: 0}}
"""
FAULTS = ("", "500", "429", "reset", "truncated", "500-after", "reset-after", "truncated-after")


@pytest.fixture
def compiled(tmp_path: Path) -> CompiledPipeline:
    (tmp_path / "tiny.yaml").write_text(YAML)
    return read_compiled(tmp_path / "tiny.yaml")


def kubeflow(host: str, **named: object) -> Kubeflow:
    patience = Patience(total=20, first=0.001, longest=0.002)
    return Kubeflow(Server(Connection(host=host, **named), patience), "exp")  # type: ignore[arg-type]


def test_a_hundred_faults_start_one_run_of_each_name(compiled: CompiledPipeline) -> None:
    chance = random.Random(0)
    with KfpServer() as server:
        for number in range(5):
            server.faults = [chance.choice(FAULTS[1:]) if chance.random() < 0.6 else "" for _ in range(35)]
            for _ in range(2):
                submit(kubeflow(server.host), compiled, f"run-{number}", {"seed": number}, print)
        assert [run["display_name"] for run in server.runs] == [f"run-{number}" for number in range(5)]
        assert len(server.lists["versions"]) == len(server.lists["pipelines"]) == 1
        assert not server.wrong


def test_a_failed_run_names_its_stage_and_why(compiled: CompiledPipeline) -> None:
    with KfpServer() as server:
        server.states = ["PENDING", "RUNNING", "FAILED"]
        runs, lines = kubeflow(server.host), []
        run = submit(runs, compiled, "bad", {}, print)
        with pytest.raises(RunFailedError, match=r"distil \(out of memory\)"):
            watch(runs, run.run_id, lines.append, every=0.01)
        assert "distil: running" in lines


def test_a_token_is_needed_and_followed_when_its_file_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    with KfpServer(token="new") as server:
        runs = kubeflow(server.host, token_file=token)
        with pytest.raises(InputError, match="401") as caught:
            runs.find("x")
        assert "old" not in str(caught.value)
        token.write_text("new")
        assert runs.find("x") is None
