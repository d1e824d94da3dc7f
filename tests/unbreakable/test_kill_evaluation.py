"""`kill -9` in the middle of an evaluation of 2,016 images: the same command gives the same scores, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sidlsg.records import Scorecard


def command(student: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "sidlsg", "evaluate", "--student", str(student), "--output", str(output)]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_killed_evaluation_goes_on(tiny_student: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    child = subprocess.Popen(command(tiny_student, tmp_path / "killed"), env=environment)
    parts = tmp_path / ".killed.parts" / "student_1_step" / "shapes"
    until = time.monotonic() + 400
    while not (parts / "000004.safetensors").is_file():
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("[0-9]*")}
    assert 4 < len(kept) < 11
    for name in ("killed", "whole"):
        done = subprocess.run(
            command(tiny_student, tmp_path / name), env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / f".{name}.parts").exists()
    killed, whole = (Scorecard.load(tmp_path / name) for name in ("killed", "whole"))
    killed.verify(tmp_path / "killed")
    assert replace(killed, seconds=0.0) == replace(whole, seconds=0.0)
    assert killed.subject("student 1 step").score("fid_judge").n == 2016
