"""The training process is killed twice inside the container of its step, and the step ends as an undisturbed one."""

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from containers.daemon import DOCKER, Daemon
from unbreakable.pods import ENVIRONMENT, PATIENCE_S, STEP, copied, kill_training, make_inputs, weights

pytestmark = pytest.mark.containers

NAME = "sidlsg-restarts"


def training_processes(daemon: Daemon) -> list[int]:
    """By their ids on the host."""
    listed = daemon.run("top", NAME, "-eo", "pid,args").stdout.splitlines()[1:]
    return [int(line.split()[0]) for line in listed if "distil-process" in line]


def run(daemon: Daemon, image: str, folder: Path, kills: tuple[int, ...]) -> str:
    """Run the step in a container to its end, with kills after these checkpoints; what it said."""
    shutil.copy(STEP, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    words = ["run", "--name", NAME, "--network", "none", "--memory", "4g", "--cap-drop", "ALL", "--read-only"]
    words += ["--security-opt", "no-new-privileges", "--tmpfs", "/tmp:size=1g,mode=1777", "--volume", f"{folder}:/step"]
    words += [part for name, value in ENVIRONMENT.items() for part in ("--env", f"{name}={value}")]
    words += [image, "python3", "/step/pod_step.py", "/step"]
    before = os.umask(0)
    try:
        step = subprocess.Popen([DOCKER, "-H", daemon.socket, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said: list[bytes] = []
        assert step.stdout is not None
        reader = threading.Thread(target=lambda: said.append(step.stdout.read()))
        reader.start()
        for iteration in kills:
            kill_training(folder, iteration, lambda: training_processes(daemon))
        code = step.wait(PATIENCE_S)
        reader.join()
    finally:
        os.umask(before)
        daemon.run("rm", "--force", NAME)
    text = b"".join(said).decode(errors="replace")
    assert code == 0, text
    return text


def test_two_kills_in_the_container_change_no_bit_of_the_student(
    daemon: Daemon, images: dict[str, str], tmp_path: Path
) -> None:
    inputs = make_inputs(tmp_path / "undisturbed")
    killed = copied(inputs, tmp_path / "killed")
    assert "restart from" not in run(daemon, images["train"], inputs, ())
    said = run(daemon, images["train"], killed, (2, 6))
    assert len(re.findall(r"training was killed by SIGKILL .*; restart from checkpoint \d+ in 1 s", said)) == 2
    assert weights(killed) == weights(inputs)
