"""The training process is killed twice in its step, which ends as an undisturbed one. Here, without a container."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from long.kill_run import descendants, kill_all
from unbreakable.pods import ENVIRONMENT, PATIENCE_S, STEP, copied, kill_training, make_inputs, weights


def training_processes(step: int) -> list[int]:
    """What the step started and has `distil-process` among its words."""

    def words(process: int) -> list[bytes]:
        try:
            return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return []

    return [process for process in descendants(step) if b"distil-process" in words(process)]


def run(folder: Path, kills: tuple[int, ...]) -> str:
    """Run the step to its end, with kills after these checkpoints; what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIDLSG_")} | ENVIRONMENT
    with (folder / "log").open("wb") as log:
        command = [sys.executable, str(STEP), str(folder)]
        step = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        for iteration in kills:
            kill_training(folder, iteration, lambda: training_processes(step.pid))
        code = step.wait(PATIENCE_S)
    finally:
        kill_all(step.pid)
        step.wait()
    said = (folder / "log").read_text(errors="replace")
    assert code == 0, said
    return said


def test_two_kills_change_no_bit_of_the_student(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "undisturbed")
    killed = copied(inputs, tmp_path / "killed")
    assert "restart from" not in run(inputs, ())
    said = run(killed, (2, 6))
    restarts = re.findall(r"note: training was killed by SIGKILL .*; restart from checkpoint (\d+) in 1 s", said)
    assert len(restarts) == 2 and 2 <= int(restarts[0]) < 6 <= int(restarts[1]), said
    assert len(re.findall(r"continues from .*/checkpoints/", said)) == 2
    assert "Traceback" not in said
    assert weights(killed) == weights(inputs)
