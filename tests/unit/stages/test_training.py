"""Training as a pipeline's step: the GPUs that it asked for, and one process for each."""

import json
import os
import signal
import subprocess
import traceback
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from forked import Program
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.distil.run_identity import run_identity, run_name
from sidlsg.distil.supervisor import RestartPolicy
from sidlsg.runtime.errors import InputError, StoppedError
from sidlsg.runtime.hardware import require_gpus
from sidlsg.runtime.provenance import GPUS_VARIABLE, RESTARTS_VARIABLE
from sidlsg.stages.encode import encode
from sidlsg.stages.training import PodTraining, read_training, train, train_in_pod, train_in_processes
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER, resolve
from sidlsg.teacher.folder import folder_digest


def test_a_step_that_asked_for_no_gpu_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPUS_VARIABLE, raising=False)
    assert require_gpus() == 0


@pytest.mark.parametrize(("asked", "seen"), [("1", 0), ("4", 3)])
def test_fewer_gpus_than_asked_for_are_refused(monkeypatch: pytest.MonkeyPatch, asked: str, seen: int) -> None:
    monkeypatch.setenv(GPUS_VARIABLE, asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    with pytest.raises(
        InputError, match=rf"asked for {asked} GPUs and sees {seen} \(this torch is for .*device plugin"
    ):
        require_gpus()


def test_gpus_that_are_there_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPUS_VARIABLE, "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert require_gpus() == 2


@pytest.mark.parametrize("value", ["all", "-1", "2.0", "٣", "²", "9" * 5])
def test_what_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(GPUS_VARIABLE, value)
    with pytest.raises(InputError, match=f"SIDLSG_GPUS is '{value}'"):
        require_gpus()


@pytest.fixture
def asked(tiny_student: Path, tmp_path: Path) -> PodTraining:
    """A short training, from files as the step has them."""
    teacher = resolve(TEACHER)
    prompts = tiny_student.parent / "prompts"
    encode(prompts, teacher, tmp_path / "embeddings", "float32", 0.0, print)
    changes = {"iterations": 3, "batch": 4, "grids": 1, "log_every": 1, "evaluate_every": 0, "on_alarm": "off"}
    return PodTraining(
        prompts=str(prompts),
        embeddings=str(tmp_path / "embeddings"),
        teacher=TEACHER,
        teacher_layout="",
        recipe="tiny",
        changes=json.dumps(changes),
        seed=0,
        checkpoints=str(tmp_path / "checkpoints"),
        held_out=HELD_OUT,
        judge=JUDGE,
        tracking_uri="",
        experiment="pod",
        output=str(tmp_path / "student"),
    )


def test_what_was_asked_goes_through_a_file(asked: PodTraining, tmp_path: Path) -> None:
    file = tmp_path / "asked.json"
    file.write_text(json.dumps(asdict(asked)))
    assert read_training(file) == asked


@pytest.mark.parametrize("given", ["digest", "no digest"])
def test_a_teachers_weights_are_hashed_once(asked: PodTraining, tmp_path: Path, hashed: list[str], given: str) -> None:
    """They are gigabytes: the digest that was checked names the run and goes into the student's record."""
    teacher = resolve(TEACHER)
    sha256 = folder_digest(teacher)
    hashed.clear()
    changes = json.dumps({**json.loads(asked.changes), "iterations": 1})
    once = replace(asked, changes=changes, teacher=f"{teacher}@sha256:{sha256}" if given == "digest" else str(teacher))
    student = train(once, print)
    assert hashed.count(str(teacher / "unet" / "diffusion_pytorch_model.safetensors")) == 1
    assert student.teacher_sha256 == sha256
    values = recipe_with_changes("tiny", changes)
    identity = run_identity(values, sha256, student.prompts_sha256, once.seed)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [run_name(values, identity)]


@pytest.mark.long
def test_two_processes_make_the_student_of_one(asked: PodTraining, tmp_path: Path) -> None:
    alone = train_in_pod(replace(asked, output=str(tmp_path / "a"), checkpoints=str(tmp_path / "c")), print)
    said: list[str] = []
    both = train_in_processes(asked, 2, said.append)
    assert said == ["2 processes, one a GPU"]
    assert (
        (both.images_seen, both.prompts_sha256)
        == (alone.images_seen, alone.prompts_sha256)
        == (12, both.prompts_sha256)
    )
    one, two = (
        load_file(Path(folder) / "unet" / "diffusion_pytorch_model.safetensors")
        for folder in (tmp_path / "a", asked.output)
    )
    assert all(torch.allclose(one[key].float(), two[key].float(), atol=2e-3) for key in one)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_what_ends_a_process_is_the_steps_own_error_and_is_not_tried_again(asked: PodTraining, processes: int) -> None:
    said: list[str] = []
    with pytest.raises(InputError, match=r"^recipe 'tinny' is unknown \(did you mean 'tiny'\?\)"):
        train_in_processes(replace(asked, recipe="tinny"), processes, said.append, RestartPolicy(restarts=3, wait=0.1))
    assert not any("restart" in line for line in said)


def test_a_step_without_a_policy_trains_by_itself(asked: PodTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (RESTARTS_VARIABLE, GPUS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError) as error:
        train_in_pod(replace(asked, recipe="tinny"), print)
    assert {"train"} <= {frame.name for frame in traceback.extract_tb(error.value.__traceback__)}


@pytest.mark.long
def test_a_step_that_is_asked_to_end_lets_its_processes_save(asked: PodTraining, tmp_path: Path) -> None:
    """The step in a separate process, as in a pod."""
    long = replace(asked, changes=json.dumps({**json.loads(asked.changes), "iterations": 400}))
    file = tmp_path / "asked.json"
    file.write_text(json.dumps(asdict(long)))
    program = f"""
import sys
from pathlib import Path
from sidlsg.stages.training import read_training, train_in_processes
from sidlsg.runtime.errors import StoppedError
try:
    train_in_processes(read_training(Path({str(file)!r})), 2, print)
except StoppedError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    step = Program(code=program, stdout=subprocess.PIPE, env=environment)
    assert step.stdout is not None
    said = []
    try:
        for line in step.stdout:  # after the first iteration
            said.append(line)
            if " images" in line:
                step.send_signal(signal.SIGTERM)
                break
        said.append(step.stdout.read())
        assert step.wait(180) == StoppedError.exit_code, "".join(said)
    finally:
        step.kill()
    assert "the same step again resumes from there" in "".join(said)
    assert list((tmp_path / "checkpoints").rglob("*.safetensors"))
    assert not Path(long.output).exists()


def test_a_step_that_is_asked_to_end_as_its_processes_start_ends_them(
    asked: PodTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def start_late(command: list[str]) -> subprocess.Popen[bytes]:
        """The signal arrives before there is a process to pass it on to."""
        os.kill(os.getpid(), signal.SIGTERM)
        return start(command)

    monkeypatch.setattr(subprocess, "Popen", start_late)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="asked to end"):
        train_in_processes(asked, 2, print)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not Path(asked.output).exists()
