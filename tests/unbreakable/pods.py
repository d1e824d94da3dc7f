"""A pod of the step `distil` whose training process is killed while it works."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from sidlsg.stages.encode import encode
from sidlsg.storage.uri import TEACHER, resolve
from unbreakable.runs import make_prompts

STEP = Path(__file__).with_name("pod_step.py")
ENVIRONMENT = {"SIDLSG_RESTARTS": "1", "SIDLSG_RESTART_WAIT": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
"""One restart without a new checkpoint: a second kill is survived where the first one's checkpoint was resumed from."""
PATIENCE_S = 1200.0


def make_inputs(folder: Path) -> Path:
    """What the step is given."""
    folder.mkdir(parents=True)
    make_prompts(folder / "prompts")
    encode(folder / "prompts", resolve(TEACHER), folder / "embeddings", "float32", 0.0, print)
    return folder


def copied(inputs: Path, folder: Path) -> Path:
    """The same inputs for another step."""
    shutil.copytree(inputs, folder)
    return folder


def kill_training(folder: Path, iteration: int, processes: Callable[[], list[int]]) -> None:
    """Kill the training process once the checkpoint of an iteration is there.

    Args:
        folder: of the step.
        iteration: of the checkpoint to wait for.
        processes: the ids of the step's training processes.
    """
    end = time.monotonic() + PATIENCE_S
    while not list(folder.glob(f"checkpoints/*/{iteration:09d}/checkpoint.json")):
        assert time.monotonic() < end, f"there is no checkpoint of iteration {iteration}"
        time.sleep(0.005)
    (process,) = processes()
    os.kill(process, signal.SIGKILL)


def weights(folder: Path) -> bytes:
    """Of the step's student."""
    return (folder / "student" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
