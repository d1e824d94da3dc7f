"""Evaluation pictures are the same whatever the number of processes, to the bit: blocks are cut alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from distributed.evaluating import COUNT
from sidlsg.tensors import load_tensors

WORKER = Path(__file__).with_name("evaluating.py")


def draw(student: Path, out: Path, processes: int) -> list[torch.Tensor]:
    out.mkdir()
    launch = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", f"{processes}"]
    )
    done = subprocess.run(
        [sys.executable, *launch, str(WORKER), str(student), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [load_tensors(out / f"pixels{rank}.safetensors")[0]["pixels"] for rank in range(processes)]


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
