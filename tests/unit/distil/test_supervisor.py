"""Restarts of a training that was lost, with shell scripts in its place: real processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidlsg.distil.supervisor import (
    LONGEST_WAIT_S,
    ProcessNotes,
    RestartPolicy,
    newest_checkpoint,
    restart_policy,
    supervise,
)
from sidlsg.runtime.errors import AlarmError, InputError, SidlsgError, StoppedError, VerdictError
from sidlsg.runtime.provenance import RESTART_WAIT_VARIABLE, RESTARTS_VARIABLE


@dataclass
class Training:
    """A script that is run for each attempt: it counts them, and does what the attempt is to do."""

    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def notes(self) -> ProcessNotes:
        return ProcessNotes(self.folder)

    @property
    def attempts(self) -> int:
        return len((self.folder / "attempts").read_text())

    def run(self, *attempts: str, restarts: int = 0, wait: float = 0.0) -> None:
        """One line of shell for each attempt; there is no further one."""
        self.notes.set_checkpoints(str(self.folder / "saved"))
        cases = "\n".join(f"{number}) {line};;" for number, line in enumerate(attempts, start=1))
        script = f"cd {self.folder}; printf x >> attempts; case $(wc -c < attempts) in\n{cases}\n*) exit 99;; esac"
        policy = RestartPolicy(restarts=restarts, wait=wait)
        supervise(["sh", "-c", script], self.notes, policy, self.said.append)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


KILLED = "kill -KILL $$"


def saves(iteration: int) -> str:
    return f"mkdir -p saved/{iteration:09d}; touch saved/{iteration:09d}/checkpoint.json"


def notes(kind: str, text: str, code: int, rank: int = 0) -> str:
    values = json.dumps({"type": kind, "text": text, "exit_code": code})
    return f"echo '{values}' > error-{rank:05d}.json; exit {code}"


def test_a_training_that_succeeds_is_run_once(training: Training) -> None:
    training.run("true", restarts=5)
    assert training.attempts == 1
    assert training.said == []


def test_a_killed_training_is_restarted_and_each_restart_is_reported_in_one_line(training: Training) -> None:
    training.run(f"{saves(20)}; {KILLED}", notes("RuntimeError", "RuntimeError: CUDA error", 1), "true", restarts=3)
    assert training.said == [
        "training was killed by SIGKILL (is there enough memory?); restart from checkpoint 20 in 0 s, "
        "2 more left until a new checkpoint is written",
        "training failed (RuntimeError: CUDA error); restart from checkpoint 20 in 0 s, "
        "1 more left until a new checkpoint is written",
    ]


def test_a_new_checkpoint_starts_the_count_anew(training: Training) -> None:
    attempts = [f"{saves(10 * number)}; {KILLED}" for number in range(1, 5)]
    training.run(*attempts, "true", restarts=1)
    assert training.attempts == 5
    assert [line.split(" in ")[0].split()[-1] for line in training.said] == ["10", "20", "30", "40"]


def test_without_a_new_checkpoint_restarting_ends_with_the_last_reason(training: Training) -> None:
    failed = notes("SidlsgError", "the device is gone", 1)
    with pytest.raises(SidlsgError, match=r"^the device is gone; it was restarted 2 times without a new checkpoint$"):
        training.run(saves(5) + "; " + KILLED, KILLED, failed, "true", restarts=2)
    assert training.attempts == 3


def test_without_restarts_the_first_failure_ends_the_step(training: Training) -> None:
    with pytest.raises(SidlsgError, match=r"^training was killed by SIGKILL \(is there enough memory\?\)$"):
        training.run(KILLED, "true")
    assert "the beginning" not in "".join(training.said)


@pytest.mark.parametrize(("kind", "code"), [(InputError, 2), (VerdictError, 3), (AlarmError, 4), (StoppedError, 75)])
def test_a_final_error_is_raised_as_it_is(training: Training, kind: type[SidlsgError], code: int) -> None:
    with pytest.raises(kind, match=r"^what the process said$") as error:
        training.run(notes(kind.__name__, "what the process said", code), "true", restarts=5)
    assert type(error.value) is kind and error.value.exit_code == code
    assert training.attempts == 1


def test_a_final_exit_code_without_a_note_is_not_restarted(training: Training) -> None:
    with pytest.raises(SidlsgError, match="ended with exit code 2") as error:
        training.run("exit 2", "true", restarts=5)
    assert error.value.exit_code == 2


def test_the_error_of_the_process_with_the_reason_is_raised(training: Training) -> None:
    """torchrun's own code is 1, whatever its processes ended with."""
    first = notes("LostError", "another process of the run ended", 1, rank=0).replace("exit 1", "true")
    with pytest.raises(AlarmError, match=r"^the sky falls$"):
        training.run(f"{first}; {notes('AlarmError', 'the sky falls', 4, rank=3).replace('exit 4', 'exit 1')}")


def test_the_loss_of_another_process_is_the_last_reason_to_be_raised(training: Training) -> None:
    first = notes("LostError", "another process of the run ended", 1, rank=0).replace("exit 1", "true")
    with pytest.raises(SidlsgError, match=r"^RuntimeError: out of memory$"):
        training.run(f"{first}; {notes('RuntimeError', 'RuntimeError: out of memory', 1, rank=1)}")


def test_errors_of_an_earlier_attempt_are_forgotten(training: Training) -> None:
    with pytest.raises(SidlsgError, match=r"^training was killed by SIGKILL"):
        training.run(notes("SidlsgError", "the device is gone", 1), KILLED, restarts=1)


def test_pauses_grow_up_to_a_limit() -> None:
    policy = RestartPolicy(restarts=100, wait=5)
    assert [policy.pause(number) for number in (1, 2, 3, 7, 90)] == [5, 10, 20, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_the_policy_is_that_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RESTARTS_VARIABLE, raising=False)
    monkeypatch.delenv(RESTART_WAIT_VARIABLE, raising=False)
    assert restart_policy() is None
    monkeypatch.setenv(RESTARTS_VARIABLE, "0")
    assert restart_policy() == RestartPolicy(restarts=0, wait=5)
    monkeypatch.setenv(RESTART_WAIT_VARIABLE, "60")
    assert restart_policy() == RestartPolicy(restarts=0, wait=60)
    monkeypatch.setenv(RESTARTS_VARIABLE, "often")
    with pytest.raises(InputError, match="SIDLSG_RESTARTS is 'often'; give a whole number"):
        restart_policy()


def test_a_checkpoint_counts_when_it_is_complete(tmp_path: Path) -> None:
    assert newest_checkpoint("") == newest_checkpoint(str(tmp_path / "none")) == -1
    (tmp_path / "000000020").mkdir()
    (tmp_path / "000000020" / "checkpoint.json").touch()
    (tmp_path / "000000040").mkdir()
    (tmp_path / "000000040" / "shard-00001-model-00001-of-00001.safetensors").touch()
    assert newest_checkpoint(str(tmp_path)) == 20


SUPERVISOR = """
import sys
from pathlib import Path
from sidlsg.distil.supervisor import ProcessNotes
from sidlsg.distil.supervisor import RestartPolicy, supervise
from sidlsg.runtime.errors import StoppedError
try:
    policy = RestartPolicy(restarts=3, wait=60)
    supervise(["sh", "-c", sys.argv[2]], ProcessNotes(Path(sys.argv[1])), policy, lambda line: print(line, flush=True))
except StoppedError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(
            "trap 'echo {} > error-00000.json; exit 75' TERM; touch begun; while :; do sleep 0.05; done",
            "the processes saved their state",
            id="training saves its state",
        ),
        pytest.param("touch begun; kill -KILL $$", "without saving its state", id="in the pause before a restart"),
    ],
)
def test_a_request_to_end_is_passed_on_and_waited_for(tmp_path: Path, script: str, said: str) -> None:
    stopped = json.dumps({"type": "StoppedError", "text": "saved", "exit_code": 75}).replace('"', '\\"')
    script = f"cd {tmp_path}; {script.format(stopped)}"
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as step:
        end = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)
        step.send_signal(signal.SIGTERM)
        output, _ = step.communicate(timeout=60)
    assert step.returncode == StoppedError.exit_code, output
    assert said in output
