"""The distil_nodes component, with really started nodes that meet by gloo, and a real S3 server between them."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from kfp.dsl import Dataset, Model

from long.kill_run import descendants
from services.kubernetes_api import Api, RunningApi
from services.local_trainer import LocalTrainer
from services.seaweedfs import SeaweedFS
from sidlsg.components.distil_nodes.component import distil_nodes
from sidlsg.runtime.errors import StoppedError
from sidlsg.stages.encode import encode
from sidlsg.storage.records import Student
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER, open_store
from unbreakable.runs import RECIPE, make_prompts

IMAGE = f"registry.example.com/sidlsg/sidlsg-train@sha256:{'0' * 64}"
SETTINGS = {"cpu": "1", "memory": "2Gi", "shm": "", "grace_seconds": 60}


class Step:
    """The component's step; it can be done again."""

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        folder.mkdir(exist_ok=True)
        make_prompts(folder / "prompts")
        encode(folder / "prompts", Path("assets/tiny-sd").resolve(), folder / "states", "float32", 0, print)

    @property
    def student(self) -> Path:
        return self.folder / "out" / "student"

    def do(self, **changes: object) -> Model:
        student = Model(name="student", uri=str(self.student), metadata={})
        with mock.patch.dict(os.environ, {"SIDLSG_CHECKPOINTS": f"{self.place}/checkpoints"}):
            distil_nodes.python_func(
                prompt_set=Dataset(name="prompt_set", uri=str(self.folder / "prompts"), metadata={}),
                embeddings=Dataset(name="embeddings", uri=str(self.folder / "states"), metadata={}),
                teacher=TEACHER,
                teacher_layout="",
                recipe="tiny",
                changes={**RECIPE, "on_alarm": "off", "evaluate_every": 0, **changes},
                seed=3,
                held_out=HELD_OUT,
                judge=JUDGE,
                results_version="code",
                nodes=2,
                gpus_per_node=0,
                image=IMAGE,
                handover=f"{self.place}/handover",
                timeout_minutes=10,
                queue="",
                namespace="",
                node_settings=json.dumps(SETTINGS),
                student=student,
            )
        return student


@pytest.fixture
def running_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    with RunningApi(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.setenv("SIDLSG_PIPELINE_RUN", "run-1")
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield running


@pytest.fixture
def trainer(running_api: RunningApi, s3_server: SeaweedFS, tmp_path: Path) -> Iterator[LocalTrainer]:
    secrets = s3_server.client_environment() | {"AWS_ENDPOINT_URL_S3": s3_server.endpoint}
    trainer = LocalTrainer(tmp_path / "machines", secrets)
    running_api.api.controller, running_api.api.deleting = trainer, trainer.deleting
    try:
        yield trainer
    finally:
        trainer.end(signal.SIGKILL)


def test_two_nodes_train_together_and_upload_their_student(
    running_api: RunningApi, trainer: LocalTrainer, s3_place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step, api = Step(tmp_path, s3_place), running_api.api
    assert trainer.processes == []
    student = step.do(iterations=2)
    record = Student.load(step.student)
    record.verify(step.student)
    assert record.hardware.startswith("2 × ")
    assert (record.images_seen, record.image) == (8, IMAGE)
    assert student.metadata == {"sha256": record.digest, "images_seen": 8, "results_version": "code"}
    assert api.left() == []
    assert open_store(f"{s3_place}/handover").names() == []
    assert any("checkpoint.json" in name for name in open_store(f"{s3_place}/checkpoints").names())
    said = capsys.readouterr().out
    assert re.search(r"node 0 \| .*note: student of 8 images in", said)
    (job,) = api.ever
    assert job["metadata"]["labels"]["pipeline/runid"] == "run-1"


@pytest.mark.long
def test_a_cancelled_run_saves_its_state_and_the_next_resumes(
    running_api: RunningApi, trainer: LocalTrainer, s3_place: str, tmp_path: Path
) -> None:
    step, api = Step(tmp_path, s3_place), running_api.api

    def cancel() -> None:
        while not any("checkpoint.json" in name for name in open_store(f"{s3_place}/checkpoints").names()):
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(StoppedError):
        step.do(iterations=40)
    thread.join()
    assert api.left() == []
    assert open_store(f"{s3_place}/handover").names() == []
    assert "asked to end at iteration" in trainer.logs()
    step.do(iterations=40)
    assert "continues from" in trainer.logs()
    assert Student.load(step.student).iterations == 40
    assert api.left() == []
    assert open_store(f"{s3_place}/handover").names() == []
    assert len(api.ever) == 2


@pytest.mark.long
def test_a_node_that_is_killed_is_restarted_and_the_student_is_that_of_an_undisturbed_job(
    running_api: RunningApi, trainer: LocalTrainer, s3_place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = Step(tmp_path / "undisturbed", f"{s3_place}/undisturbed")
    undisturbed.do()
    step, api = Step(tmp_path / "killed", f"{s3_place}/killed"), running_api.api

    def kill() -> None:
        while not any("checkpoint.json" in name for name in open_store(f"{step.place}/checkpoints").names()):
            time.sleep(0.05)
        # A training process of node 1: its torchrun and its command find it gone.
        os.kill(descendants(trainer.processes[1].pid)[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    step.do()
    thread.join()
    said = capsys.readouterr().out
    assert "the cluster restarts all nodes from the newest checkpoint (restart 1)" in said
    assert "continues from" in trainer.logs()
    assert len(api.ever) == 2  # one of each step
    weights = [each.student / "unet" / "diffusion_pytorch_model.safetensors" for each in (undisturbed, step)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert api.left() == []
    assert open_store(f"{step.place}/handover").names() == []


@pytest.mark.long
def test_a_node_that_fails_ends_the_step_with_what_it_said(
    running_api: RunningApi, trainer: LocalTrainer, s3_place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step, api = Step(tmp_path, s3_place), running_api.api
    taken = Api.job

    def without_prompts(api: Api) -> None:
        place = taken(api)["spec"]["trainer"]["args"][1]
        store = open_store(place)
        store.delete([name for name in store.names("inputs/prompts") if name.endswith(".parquet")])

    api.script = [without_prompts]
    # An input: the cluster does not start the nodes again.
    with pytest.raises(
        Exception, match=r"TrainJob distil-\w+ failed .*PodFailurePolicy.*node 1 ended with exit code 2"
    ):
        step.do(iterations=2)
    assert "error: there is no s3://" in trainer.logs()
    assert re.search(r"node 1 \| .*process 1: error: there is no s3://", capsys.readouterr().out)
    assert api.left() == []
    assert open_store(f"{s3_place}/handover").names() == []
