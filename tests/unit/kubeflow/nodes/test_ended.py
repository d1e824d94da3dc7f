"""A step that gets SIGTERM or is killed, as a real separate process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forked import Program
from services.kubernetes_api import Api, RunningApi, complete, queued, running
from sidlsg.storage.records import Student
from unit.kubeflow.nodes.launch import Launch

PATIENCE_S = 60.0
STEP = Path(__file__).with_name("step.py")

Step = Callable[[Api], None]


class Process:
    """The step; it can be started again."""

    def __init__(self, launch: Launch, student: Path, api: Api) -> None:
        self.launch, self.student, self.api = launch, student, api
        self.log = launch.folder / "log"
        self.process: Program | None = None

    def start(self, until: Callable[[], bool]) -> None:
        """Start it, and wait until something is so."""
        tests = str(STEP.parents[3])
        environment = {**os.environ, "PYTHONPATH": tests, "PYTHONUNBUFFERED": "1"}
        words = [str(self.student), str(self.launch.folder)]
        with self.log.open("ab") as log:
            self.process = Program(words, file=STEP, stdout=log, stderr=log, env=environment)
        end = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < end and self.process.poll() is None, self.logged()
            time.sleep(0.01)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def logged(self) -> str:
        return self.log.read_text()


@pytest.fixture
def process(launch: Launch, tiny_student: Path, api: Api) -> Iterator[Process]:
    process = Process(launch, tiny_student, api)
    try:
        yield process
    finally:
        if process.process is not None:
            process.process.kill()
            process.process.wait()


@pytest.mark.parametrize("states", [[queued], [running]])
def test_a_run_that_is_cancelled_leaves_nothing(
    process: Process, running_api: RunningApi, api: Api, launch: Launch, states: list[Step]
) -> None:
    api.script, api.slow_to_go = list(states), 3
    process.start(lambda: "in its queue" in process.logged() or "runs" in process.logged())
    assert len(running_api.do(Api.left)) >= 1
    assert process.end(signal.SIGTERM) == 75
    assert "asked to end" in process.logged() and "Traceback" not in process.logged()
    assert api.left() == launch.left() == []
    assert api.asked["DELETE", "trainjobs"] >= 1
    assert not launch.output.exists()


def test_a_second_request_to_end_does_not_disturb_the_first(process: Process, api: Api, launch: Launch) -> None:
    api.script, api.slow_to_go = [running], 30
    process.start(lambda: "runs" in process.logged())
    assert process.process is not None
    process.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.end(signal.SIGTERM) == 75
    assert api.left() == launch.left() == []


def test_a_request_to_end_while_the_api_is_away_still_deletes_the_job(
    process: Process, running_api: RunningApi, api: Api, launch: Launch
) -> None:
    api.script = [running]
    process.start(lambda: "runs" in process.logged())
    running_api.do(lambda api: api.faults.extend(["503"] * 40))
    time.sleep(0.2)
    assert process.end(signal.SIGTERM) == 75
    assert api.happened["503"] > 5
    assert api.left() == launch.left() == []


def test_a_step_that_is_killed_finds_its_job_again(
    process: Process, running_api: RunningApi, api: Api, launch: Launch, given: Step, tiny_student: Path
) -> None:
    api.script = [running]
    process.start(lambda: "runs" in process.logged())
    assert process.end(signal.SIGKILL) == -signal.SIGKILL
    assert len(api.left()) == 3 and launch.left()
    process.start(lambda: "of an earlier attempt is still running" in process.logged())
    running_api.do(lambda api: api.script.extend([given, complete]))
    assert process.wait() == 0, process.logged()
    assert len(api.ever) == 1
    assert Student.load(launch.output) == Student.load(tiny_student)
    assert api.left() == launch.left() == []
