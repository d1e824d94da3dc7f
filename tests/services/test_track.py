"""Live tracking on a real MLflow server: a killed training, a given run, a server that goes away, and registering."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from forked import Program
from services.tracked_run import tracked
from sidlsg.distil.recipes import get_recipe
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.rules import CurationRules
from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.registry.server.mlflow import MlflowServer
from sidlsg.registry.tracking.runs import Training
from sidlsg.registry.tracking.tracker import MlflowTracker, open_tracker
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.stages.distil import training_params
from sidlsg.storage.records import Student

CHANGES = {
    "iterations": 6,
    "batch": 4,
    "micro_batch": 4,
    "grids": 2,
    "log_every": 1,
    "checkpoint_every": 2,
    "evaluate_every": 0,
}
CHANGES |= {"evaluate_every": 0, "on_alarm": "off"}
PATIENCE_S = 180.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that tracks sets for itself is taken back, and nothing of the caller's counts."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def client(server: MlflowServer) -> MlflowClient:
    return connect(server.address)


@pytest.fixture(scope="module")
def prompts(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts") / "prompts"
    held_out = read_held_out(assets / "prompts" / "held_out.txt")
    curate(assets / "prompts" / "prompts.parquet", folder, CurationRules(), held_out)
    return folder


@pytest.fixture
def train(assets: Path, prompts: Path, server: MlflowServer) -> Callable[..., Student]:
    """Trains in this process."""

    def train(folder: Path, experiment: str, **changes: Any) -> Student:
        values = json.dumps(CHANGES | changes)
        student = tracked(prompts, assets / "tiny-sd", folder, values, server.address, experiment)
        torch.set_num_threads(1)
        return student

    return train


def runs_of(client: MlflowClient, experiment: str) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def steps(client: MlflowClient, run: Any, metric: str) -> list[int]:
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, metric))


def grids(client: MlflowClient, run: Any) -> list[int]:
    names = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    return sorted(int(name.split("+")[2]) for name in names)


def require_each_once(client: MlflowClient, run: Any, folder: Path) -> None:
    """Every number of the student's log is a point of the run, once, and so is every grid."""
    rows = [json.loads(line) for line in (folder / "student" / "training_log.jsonl").read_text().splitlines()]
    names = {name for row in rows for name in row} - {"iteration", "images_seen"}
    assert names <= set(run.data.metrics)
    for name in names:
        assert steps(client, run, name) == [row["images_seen"] for row in rows if name in row], name
    student = Student.load(folder / "student")
    assert grids(client, run) == [int(Path(ref.path).stem) for ref in student.grids]


def waited_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def test_a_training_is_followed_and_registered_in_one_run(
    client: MlflowClient, server: MlflowServer, train: Callable[..., Student], tmp_path: Path
) -> None:
    student = train(tmp_path, "followed")
    (run,) = runs_of(client, "followed")
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("tiny-")
    assert run.data.tags["student_sha256"] == student.digest
    assert run.data.params["iterations"] == "6"
    assert run.data.params["seed"] == "0"
    require_each_once(client, run, tmp_path)

    version = register(tmp_path / "student", server.address, "followed")
    assert version.run_id == run.info.run_id
    (again,) = runs_of(client, "followed")
    require_each_once(client, again, tmp_path)
    assert again.info.status == "FINISHED"
    assert again.info.end_time == run.info.end_time
    assert "model" in [file.path for file in client.list_artifacts(version.run_id)]
    assert register(tmp_path / "student", server.address, "followed") == version

    # Under another name too, it is the student of that training.
    other = register(tmp_path / "student", server.address, "followed-elsewhere")
    assert other.run_id == version.run_id
    assert runs_of(client, "followed-elsewhere") == []

    # The same command again has nothing to train, and makes nothing.
    tracker = opened(server, "followed", [], key=run.data.tags["training_sha256"])
    tracker.finish(student)
    (still,) = runs_of(client, "followed")
    assert (still.info.status, still.info.end_time) == ("FINISHED", run.info.end_time)

    # From scratch it is another training, though of the same identity.
    anew = train(tmp_path / "anew", "followed")
    first, second = sorted(runs_of(client, "followed"), key=lambda run: run.info.start_time)
    assert first.data.tags["student_sha256"] == student.digest
    assert second.data.tags["student_sha256"] == anew.digest
    require_each_once(client, second, tmp_path / "anew")


def test_a_killed_training_resumes_its_run(
    client: MlflowClient,
    server: MlflowServer,
    assets: Path,
    prompts: Path,
    train: Callable[..., Student],
    tmp_path: Path,
) -> None:
    """Killed with rows logged after the last checkpoint, which the continued training logs a second time."""
    changes = {"iterations": 14, "checkpoint_every": 5}
    program = Path(__file__).with_name("tracked_run.py")
    words = [str(prompts), str(assets / "tiny-sd")]
    words += [str(tmp_path), json.dumps(CHANGES | changes), server.address, "killed"]
    with (tmp_path / "output").open("wb") as output:
        process = Program(words, file=program, stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        waited_for(
            lambda: (
                process.poll() is not None
                or any(8 * 4 in steps(client, run, "seconds") for run in runs_of(client, "killed"))
            )
        )
        assert process.poll() is None, (tmp_path / "output").read_text()
    finally:
        process.kill()
        process.wait()
    (run,) = runs_of(client, "killed")
    assert run.info.status == "RUNNING"
    assert "student_sha256" not in run.data.tags
    before = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "seconds")}

    student = train(tmp_path, "killed", **changes)
    assert student.iterations == 14
    (same,) = runs_of(client, "killed")
    assert same.info.run_id == run.info.run_id
    assert same.info.status == "FINISHED"
    require_each_once(client, same, tmp_path)
    after = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "seconds")}
    assert before.items() <= after.items()
    # Some were logged twice, and differ in the student's own log: the test would see them as second points.
    rows = [json.loads(line) for line in (tmp_path / "student" / "training_log.jsonl").read_text().splitlines()]
    assert any(after[row["images_seen"]] != row["seconds"] for row in rows)
    assert register(tmp_path / "student", server.address, "killed").run_id == run.info.run_id
    (registered,) = runs_of(client, "killed")
    require_each_once(client, registered, tmp_path)


def test_a_given_run_is_used_and_neither_ended_nor_renamed(
    client: MlflowClient,
    server: MlflowServer,
    train: Callable[..., Student],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = client.create_experiment("pipelines")
    given = client.create_run(experiment, run_name="nightly", tags={"pipeline": "p1"})
    client.log_param(given.info.run_id, "seed", "of the pipeline")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    train(tmp_path, "not-made")
    version = register(tmp_path / "student", server.address, "from-a-pipeline")
    assert version.run_id == given.info.run_id
    run = client.get_run(given.info.run_id)
    assert (run.info.run_name, run.info.status, run.info.end_time) == ("nightly", "RUNNING", None)
    assert run.data.tags["pipeline"] == "p1"
    assert run.data.params["seed"] == "of the pipeline"
    assert run.data.params["iterations"] == "6"
    require_each_once(client, run, tmp_path)
    assert [experiment.name for experiment in client.search_experiments() if "not-made" in experiment.name] == []
    assert runs_of(client, "from-a-pipeline") == []

    with pytest.raises(InputError, match="numbers of another training"):
        train(tmp_path / "second", "not-made", iterations=2)
    client.set_terminated(given.info.run_id, "FINISHED")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(InputError, match="there is no such run"):
        train(tmp_path / "second", "not-made")


def opened(server: MlflowServer, experiment: str, said: list[str], key: str = "c" * 64) -> MlflowTracker:
    digests = {"teacher_sha256": "a" * 64, "prompts_sha256": "b" * 64}
    training = Training(key=key, name="tiny", params=training_params(get_recipe("tiny"), 0), **digests)
    return open_tracker(server.address, experiment, training, said.append)


def row(step: int) -> dict[str, float]:
    return {"iteration": step, "images_seen": 10 * step, "loss": step / 2, "nan": float("nan")}


def test_training_continues_while_its_server_is_away(tmp_path: Path) -> None:
    said: list[str] = []
    with MlflowServer(tmp_path / "server") as server:
        tracker = opened(server, "away", said)
        tracker.logged(row(1))
        client = connect(server.address)
        (run,) = runs_of(client, "away")
        waited_for(lambda: steps(client, run, "loss") == [10])
        server.kill()
        began = time.monotonic()
        for step in range(2, 6):
            tracker.logged(row(step))
        tracker.sampled(50, Image.new("RGB", (8, 8)))
        tracker.evaluated({"iteration": 5, "images_seen": 50, "color distance@48": 2.5})
        assert time.monotonic() - began < 1.0
        waited_for(lambda: said)
        assert "MLflow takes nothing now" in said[0]
        assert "\n" not in said[0]
        server.start()
        waited_for(lambda: said[1:])
        tracker.logged(row(6))
        tracker.failed(RuntimeError("no memory"))
        assert [line.partition(" (")[0] for line in said] == ["MLflow takes nothing now", "MLflow answers again"]
        run = client.get_run(run.info.run_id)
        for metric in ("loss", "nan"):
            assert steps(client, run, metric) == [10, 20, 30, 40, 50, 60]
        assert run.data.metrics["eval/color distance_48"] == 2.5
        assert Counter(grids(client, run)) == {50: 1}
        assert run.info.status == "FAILED"


@pytest.mark.long
def test_a_student_whose_server_was_away_at_the_end_is_registered_in_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assets: Path, prompts: Path
) -> None:
    """Nothing tells MLflow which student the run has, and half of the rows are missing: still there is one run."""
    monkeypatch.setattr("sidlsg.registry.tracking.tracker.PATIENCE", 1.0)
    with MlflowServer(tmp_path / "server") as server:
        original = MlflowTracker.logged

        def killing(tracker: MlflowTracker, row: Any) -> None:
            original(tracker, row)
            if row["iteration"] == 3:
                client = connect(server.address)
                waited_for(lambda: any(steps(client, run, "seconds") == [4, 8, 12] for run in runs_of(client, "gone")))
                server.kill()

        with monkeypatch.context() as patch:
            patch.setattr(MlflowTracker, "logged", killing)
            tracked(prompts, assets / "tiny-sd", tmp_path, json.dumps(CHANGES), server.address, "gone")
        torch.set_num_threads(1)
        server.start()
        client = connect(server.address)
        (run,) = runs_of(client, "gone")
        assert "student_sha256" not in run.data.tags
        version = register(tmp_path / "student", server.address, "gone")
        (run,) = runs_of(client, "gone")
        assert version.run_id == run.info.run_id
        assert run.info.status == "FINISHED"
        require_each_once(client, run, tmp_path)


def test_a_server_that_is_not_there_at_the_start_is_said(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path, port=9)  # nothing listens there
    with pytest.raises(InputError, match="no answer from the MLflow server"):
        opened(server, "none", [])
