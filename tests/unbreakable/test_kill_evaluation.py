"""`kill -9` in the middle of an evaluation: the same command gives the same scores, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sidlsg.records import Scorecard

WORKER = Path(__file__).parents[1] / "distributed" / "evaluating.py"
STUDENT = "student 1 step"

Command = Callable[[Path], list[str]]
"""The folder of the outcome to the command that ends with a scorecard in its `card/`."""


@pytest.fixture
def few(tiny_student: Path) -> Command:
    """An evaluation of 40 images."""
    return lambda out: [sys.executable, str(WORKER), "evaluate", str(tiny_student), str(out)]


@pytest.fixture
def many(tiny_student: Path) -> Command:
    """The command line's, of 2,016 images."""
    given = [sys.executable, "-m", "sidlsg", "evaluate", "--student", str(tiny_student), "--output"]
    return lambda out: [*given, str(out / "card")]


def kill_and_compare(command: Command, folder: Path, number: int, images: int) -> None:
    """Kill it when the student's part of that number is there, go on, and compare with one that ran through."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = folder / "killed", folder / "whole"
    for out in (killed, whole):
        out.mkdir()
    child = subprocess.Popen(command(killed), env=environment, stdout=subprocess.DEVNULL)
    parts = killed / ".card.parts" / STUDENT.replace(" ", "_") / "shapes"
    until = time.monotonic() + 400
    while not (parts / f"{number:06d}.safetensors").is_file():
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list(killed.iterdir()) == [killed / ".card.parts"]
    for out in (killed, whole):
        done = subprocess.run(command(out), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in out.iterdir()] == ["card"]
    first, second = (Scorecard.load(out / "card") for out in (killed, whole))
    first.verify(killed / "card")
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)
    assert first.subject(STUDENT).score("fid_judge").n == images


def test_a_killed_evaluation_goes_on(few: Command, tmp_path: Path) -> None:
    kill_and_compare(few, tmp_path, 2, 40)


@pytest.mark.long
def test_a_killed_evaluation_of_2016_images_goes_on(many: Command, tmp_path: Path) -> None:
    kill_and_compare(many, tmp_path, 4, 2016)
