"""A real training of a pipeline run: its log, its metrics and MLflow name that run by the same word."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.rules import CurationRules
from sidlsg.registry.registration import Circumstances, register
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.progress import note as say
from sidlsg.runtime.provenance import pipeline_run
from sidlsg.stages.curate import curate
from sidlsg.stages.distil import Extras, distil
from sidlsg.storage.records import Student
from unit.registry.tracking.gateway import Gateway

RUN = "0a1b2c3d-0000-4000-8000-000000000007"
CHANGES = json.dumps(
    {
        "iterations": 2,
        "batch": 4,
        "micro_batch": 4,
        "log_every": 1,
        "grids": 0,
        "evaluate_every": 0,
        "on_alarm": "off",
    }
)


@pytest.fixture(scope="module")
def prompts(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts") / "prompts"
    held_out = read_held_out(assets / "prompts" / "held_out.txt")
    curate(assets / "prompts" / "prompts.parquet", folder, CurationRules(), held_out)
    return folder


@pytest.fixture
def train(assets: Path, prompts: Path, tmp_path: Path, tracking_uri: str):
    def train(experiment: str, report=say) -> Student:
        recipe = recipe_with_changes("tiny", CHANGES)
        extras = Extras(tracking_uri=tracking_uri, experiment=experiment)
        try:
            return distil(
                prompts, assets / "tiny-sd", tmp_path / "student", recipe, 0, tmp_path / "checkpoints", report, extras
            )
        finally:
            torch.set_num_threads(1)

    return train


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_log_metrics_and_mlflow_name_the_same_run(
    train,
    port: int,
    tmp_path: Path,
    tracking_uri: str,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", RUN)
    monkeypatch.setenv("SIDLSG_METRICS_PORT", str(port))
    scraped: list[str] = []

    def report(line: str) -> None:
        say(line)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            scraped.append(answer.read().decode())

    with Gateway() as gateway:
        monkeypatch.setenv("SIDLSG_PUSHGATEWAY", gateway.address)
        train("ids", report)
        ((path, pushed),) = gateway.groups.items()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)

    # While it went on, and at its end.
    assert f'sidlsg_training_active{{recipe="tiny",run="{RUN}"}} 1.0' in scraped[0]
    assert f'sidlsg_training_active{{recipe="tiny",run="{RUN}"}} 0.0' in pushed
    assert f'sidlsg_training_images_total{{recipe="tiny",run="{RUN}"}} 8.0' in pushed
    # The last one is always written; how many before it is the recipe's matter.
    assert f'sidlsg_training_checkpoints_total{{recipe="tiny",run="{RUN}"}} 1.0' in pushed
    assert set(re.findall(r'\brun="([^"]*)"', "".join([*scraped, pushed]))) == {RUN}

    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines
    assert all(line.startswith(f"run={RUN} ") for line in lines)

    (run,) = client.search_runs([client.get_experiment_by_name("ids").experiment_id], f"tags.pipeline_run = '{RUN}'")
    assert any(f"MLflow follows this training in run {run.info.run_id}" in line for line in lines)
    assert path == f"/metrics/job/sidlsg-training/run/{RUN}/training/{run.info.run_name}"
    assert f'mlflow_run="{run.info.run_id}",recipe="tiny",run="{RUN}",training="{run.info.run_name}"}} 1.0' in pushed

    version = register(tmp_path / "student", tracking_uri, "ids", Circumstances(pipeline_run=pipeline_run()))
    assert version.run_id == run.info.run_id
    assert client.get_model_version("ids", str(version.version)).tags["pipeline_run"] == RUN


def test_a_port_that_is_taken_ends_it_before_the_teacher_is_loaded(
    train, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDLSG_METRICS_PORT", str(port))
    monkeypatch.setattr("sidlsg.stages.distil.load_teacher", None)
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))
        other.listen()
        with pytest.raises(InputError, match="cannot be listened on: Address already in use"):
            train("taken")
