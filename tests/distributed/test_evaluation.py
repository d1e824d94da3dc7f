"""Evaluation pictures are the same whatever the number of processes, to the bit: blocks are cut alike."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distributed.evaluating import COUNT
from sidlsg.records import Scorecard
from sidlsg.tensors import load_tensors

WORKER = Path(__file__).with_name("evaluating.py")


def start(what: str, student: Path, out: Path, processes: int) -> str:
    out.mkdir()
    launch = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", f"{processes}"]
    )
    done = subprocess.run(
        [sys.executable, *launch, str(WORKER), what, str(student), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def draw(student: Path, out: Path, processes: int) -> list[torch.Tensor]:
    start("draw", student, out, processes)
    return [load_tensors(out / f"pixels{rank}.safetensors")[0]["pixels"] for rank in range(processes)]


@pytest.mark.long
def test_one_and_three_processes_draw_the_same_pictures(tiny_student: Path, tmp_path: Path) -> None:
    (alone,) = draw(tiny_student, tmp_path / "one", 1)
    assert alone.shape == (COUNT, 32 * 32 * 3)
    for every in draw(tiny_student, tmp_path / "three", 3):
        # At each process, in the pictures' order.
        assert torch.equal(every, alone)
    # Each drew a part, and no two the same.
    drawn = [sorted((tmp_path / "three" / f"parts{rank}").rglob("*.safetensors")) for rank in range(3)]
    assert [[path.stem for path in paths] for paths in drawn] == [
        ["000000", "000003", "000006"],
        ["000001", "000004"],
        ["000002", "000005"],
    ]


def test_one_and_three_processes_find_the_same_scores(tiny_student: Path, tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("three", 3)):
        told = start("evaluate", tiny_student, tmp_path / name, processes)
        # Only one of them speaks.
        assert told.count("student 1 step, shapes 100%") == 1
        assert [path.name for path in (tmp_path / name).iterdir()] == ["card"]
    alone, three = (Scorecard.load(tmp_path / name / "card") for name in ("one", "three"))
    assert replace(alone, seconds=0.0) == replace(three, seconds=0.0)
    assert [subject.subject for subject in three.subjects] == ["teacher 1 step", "student 1 step", "real images"]
