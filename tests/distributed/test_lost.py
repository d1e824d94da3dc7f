"""Several processes of the command line: what they refuse, and what the rest does when one is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import Program, ranks
from unbreakable.runs import TinyRun, make_prompts

NOTICED_S = 60.0
PATIENCE_S = 240.0


class Pair:
    """Two processes of one run, started without torchrun, which would end the second one itself."""

    def __init__(self, run: TinyRun) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        self.run = run
        self.processes = []
        for rank, places in enumerate(ranks(2)):
            environment = {**os.environ, **places}
            with (run.folder / f"log-{rank}").open("wb") as log:
                given = {"cwd": run.folder, "env": environment, "stdout": log, "stderr": subprocess.STDOUT}
                self.processes.append(Program(run.words(), **given))

    def errors(self, rank: int) -> list[str]:
        """The lines that a process said of errors."""
        text = (self.run.folder / f"log-{rank}").read_text()
        assert "Traceback" not in text, text
        return [line for line in text.splitlines() if "error:" in line]

    def until(self, path: str) -> None:
        """Wait until something is in the run's folder."""
        end = time.monotonic() + PATIENCE_S
        while not any(self.run.folder.glob(path)):
            assert time.monotonic() < end and all(process.poll() is None for process in self.processes)
            time.sleep(0.01)


@pytest.fixture
def run(tmp_path: Path) -> TinyRun:
    """A run that would take long."""
    return TinyRun(tmp_path / "run", make_prompts(tmp_path / "prompts"), changes={"iterations": 500})


@pytest.fixture
def pair(run: TinyRun) -> Iterator[Pair]:
    """Both processes of the run."""
    pair = Pair(run)
    try:
        yield pair
    finally:
        for process in pair.processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.long)])
def test_when_one_is_killed_the_other_ends_soon_and_says_why(pair: Pair, lost: int) -> None:
    pair.until("checkpoints/000000002")
    pair.processes[lost].kill()
    began = time.monotonic()
    left = 1 - lost
    assert pair.processes[left].wait(NOTICED_S) == 1
    assert time.monotonic() - began < NOTICED_S
    (line,) = pair.errors(left)
    assert line.startswith("process 1: error: another process" if left else "error: another process")
    assert "the same command again resumes from the last checkpoint" in line
    assert list(pair.run.checkpoints.glob("*/checkpoint.json"))


def test_a_request_to_one_ends_both_with_a_checkpoint_and_one_message(pair: Pair) -> None:
    pair.until("checkpoints/000000002")
    pair.processes[1].send_signal(signal.SIGTERM)
    assert [process.wait(PATIENCE_S) for process in pair.processes] == [75, 75]
    (line,) = pair.errors(0)
    assert "asked to end at iteration" in line
    assert pair.errors(1) == []
    assert pair.run.remains() == []
    assert f"iteration {pair.run.manifest()['iteration']} of 500" in line


def test_a_batch_that_does_not_divide_is_refused_by_all(tmp_path: Path) -> None:
    pair = Pair(TinyRun(tmp_path / "run", make_prompts(tmp_path / "prompts"), changes={"batch": 3}))
    assert [process.wait(PATIENCE_S) for process in pair.processes] == [2, 2]
    said = "error: batch 3 does not divide among 2 processes; start 1, 3 processes, or change the batch"
    assert pair.errors(0) == [said]
    assert pair.errors(1) == [f"process 1: {said}"]
    assert not pair.run.student.exists()


@pytest.mark.parametrize("kind", [pytest.param("ddp", marks=pytest.mark.long), "fsdp"])
def test_what_all_do_is_said_once_and_a_checkpoint_that_cannot_be_written_keeps_nobody_waiting(
    tmp_path: Path, kind: str
) -> None:
    run = TinyRun(tmp_path / "run", make_prompts(tmp_path / "prompts"), 2, {"iterations": 4, "parallel": kind})
    run.checkpoints.mkdir(parents=True)
    in_the_way = run.checkpoints / ".unfinished-000000002"
    in_the_way.write_text("a file where the checkpoint would be made")
    assert run.finish() == 0, run.said()
    assert run.said().count("student of 16 images") == 1
    assert len(run.result().log) == 4
    assert "Warning" not in run.said()
    assert run.said().count("checkpoint 2 could not be written") == 1
    assert "training continues, and there is no complete one yet" in run.said()
    assert run.manifest()["iteration"] == 4
