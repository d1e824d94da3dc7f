"""Ends real runs by real signals, in the middle of a stage."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidlsg.kubeflow.local.execution import end_stages, ending_with_this

# A stage that takes long and does not care about SIGTERM, started as kfp starts one: by a shell, with its output read.
STAGE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "stubborn" else signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(60)
"""
RUN = """
import os, signal, subprocess, sys
from pathlib import Path
from sidlsg.kubeflow.local import execution as children
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
children.PATIENCE = 0.5
with children.ending_with_this(Path(os.environ["TMPDIR"]), lambda: print("no more", flush=True)):
    command = ["sh", "-c", '"$0" "$@"; true', sys.executable, "-c", sys.argv[1], sys.argv[2]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(scratch: Path, how: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN, STAGE, how]
    environment = os.environ | {"TMPDIR": str(scratch)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


@pytest.mark.parametrize("how", ["meek", "stubborn"])
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_stage_ends_with_its_run(sign: int, code: int, how: str, tmp_path: Path) -> None:
    with start(tmp_path, how) as run:
        assert run.stdout is not None
        stage = int(run.stdout.readline())
        assert is_alive(stage)
        began = time.monotonic()
        os.kill(run.pid, sign)
        assert run.stdout.readline() == "no more\n"
        assert run.wait(timeout=20) == code
    assert time.monotonic() - began < 10
    assert not is_alive(stage)


def test_a_killed_run_s_stage_is_ended_by_the_next_run_and_another_run_s_is_not(tmp_path: Path) -> None:
    with start(tmp_path / "one", "meek") as one, start(tmp_path / "two", "meek") as two:
        assert one.stdout is not None
        assert two.stdout is not None
        first, second = int(one.stdout.readline()), int(two.stdout.readline())
        one.kill()
        assert is_alive(first)
        end_stages(tmp_path / "one")
        assert not is_alive(first)
        assert is_alive(second)
        two.terminate()
    assert not is_alive(second)


def test_a_stage_ends_even_where_nothing_can_be_told(tmp_path: Path) -> None:
    """Such as to a terminal that is gone."""

    def broken() -> None:
        raise BrokenPipeError

    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment) as stage:
        with pytest.raises(BrokenPipeError), ending_with_this(tmp_path, broken):
            raise ValueError
        assert stage.wait(timeout=20) < 0
