"""Evaluation pictures are the same whatever the number of processes, to the bit: blocks are cut alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distributed.evaluating import COUNT
from forked import ranks, run_all
from sidlsg.storage.records import Scorecard
from sidlsg.storage.tensors import load_tensors

WORKER = Path(__file__).with_name("evaluating.py")


def start(what: str, student: Path, out: Path, processes: int) -> str:
    out.mkdir()
    done = run_all([what, str(student), str(out)], ranks(processes), 600, file=WORKER)
    assert [each.returncode for each in done] == [0] * processes, "".join(each.stderr[-4000:] for each in done)
    return "".join(each.stdout for each in done)


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
