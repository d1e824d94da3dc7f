"""`kill -9` in the middle of an evaluation: the same command gives the same scores, to the last bit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forked import Program, run
from sidlsg.storage.records import Scorecard

WORKER = Path(__file__).parents[1] / "distributed" / "evaluating.py"
STUDENT = "student 1 step"

Command = Callable[[Path], dict[str, Any]]
"""The folder of the outcome to the program that ends with a scorecard in its `card/`."""


@pytest.fixture
def few(tiny_student: Path) -> Command:
    """An evaluation of 40 images."""
    return lambda out: {"file": WORKER, "words": ["evaluate", str(tiny_student), str(out)]}


@pytest.fixture
def many(tiny_student: Path) -> Command:
    """The command line's, of 2,016 images."""
    return lambda out: {"words": ["evaluate", "--student", str(tiny_student), "--output", str(out / "card")]}


def kill_and_compare(command: Command, folder: Path, number: int, images: int) -> None:
    """Kill it when the student's part of that number is there, go on, and compare with one that ran through."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = folder / "killed", folder / "whole"
    for out in (killed, whole):
        out.mkdir()
    child = Program(**command(killed), env=environment)
    try:
        parts = killed / ".card.parts" / STUDENT.replace(" ", "_") / "shapes"
        until = time.monotonic() + 400
        while not (parts / f"{number:06d}.safetensors").is_file():
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    assert list(killed.iterdir()) == [killed / ".card.parts"]
    for out in (killed, whole):
        done = run(**command(out), env=environment)
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
