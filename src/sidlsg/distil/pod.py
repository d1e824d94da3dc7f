"""Training as a step of a pipeline: in this process, or in one for each GPU that the step asked for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sidlsg.distil.stage import Extras, distil, run_identity, run_name
from sidlsg.errors import SidlsgError, StoppedError
from sidlsg.hardware import require_gpus
from sidlsg.places import resolve
from sidlsg.prompts.held_out import read_held_out
from sidlsg.recipes.recipe import recipe_with_changes
from sidlsg.records import PromptSet, Student
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.source import checked_teacher

GRACE_S = 600
"""How long processes that are asked to end may take to save their state."""


@dataclass(frozen=True, kw_only=True)
class PodTraining:
    """What the component `distil` was given; texts are as its description says, and some may be empty."""

    prompts: str
    embeddings: str = ""
    """Empty to encode prompts during training."""
    teacher: str
    teacher_sha256: str = ""
    teacher_layout: str = ""
    recipe: str
    changes: str
    seed: int
    checkpoints: str
    held_out: str = ""
    """Needed, as the judge is, where the recipe takes scores along the way."""
    held_out_sha256: str = ""
    judge: str = ""
    judge_sha256: str = ""
    tracking_uri: str = ""
    experiment: str = ""
    output: str


def train_in_pod(asked: PodTraining, report: Callable[[str], None]) -> Student:
    """Train with the GPUs that the step asked for.

    Raises:
        InputError: they are not there, or an input cannot be used.
        SidlsgError: a process ended before its work was done.
        StoppedError: this process was asked to end; the processes saved their state.
    """
    gpus = require_gpus()
    return train_in_processes(asked, gpus, report) if gpus > 1 else train(asked, report)


def train(asked: PodTraining, report: Callable[[str], None]) -> Student:
    """Train as one process, or as one of those that torchrun started."""
    folder, sha256 = checked_teacher(asked.teacher, asked.teacher_sha256, asked.teacher_layout)
    sha256 = sha256 or folder_digest(folder)
    values = recipe_with_changes(asked.recipe, asked.changes)
    prompts = Path(asked.prompts)
    identity = run_identity(values, sha256, PromptSet.load(prompts).digest, asked.seed)
    evaluated = values.evaluate_every > 0
    return distil(
        prompts=prompts,
        teacher=folder,
        output=Path(asked.output),
        recipe=values,
        seed=asked.seed,
        checkpoints=f"{asked.checkpoints}/{run_name(values, identity)}",
        report=report,
        extras=Extras(
            teacher_sha256=sha256,
            embeddings=Path(asked.embeddings) if asked.embeddings else None,
            held_out=read_held_out(resolve(asked.held_out, asked.held_out_sha256)) if evaluated else (),
            judge=resolve(asked.judge, asked.judge_sha256) if evaluated else None,
            tracking_uri=asked.tracking_uri,
            experiment=asked.experiment,
        ),
    )


def train_in_processes(asked: PodTraining, processes: int, report: Callable[[str], None]) -> Student:
    """Train in several processes of this machine, under torchrun. See `train_in_pod`."""
    report(f"{processes} processes, one a GPU")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "training.json"
        file.write_text(json.dumps(asdict(asked)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += [f"--shutdown-timeout={GRACE_S}", "-m", "sidlsg", "distil-process", str(file)]
        process: subprocess.Popen[bytes] | None = None
        asked_to_end = False

        def pass_on(_: int, __: FrameType | None) -> None:
            nonlocal asked_to_end
            asked_to_end = True
            if process is not None:
                process.send_signal(signal.SIGTERM)

        earlier: Any = signal.signal(signal.SIGTERM, pass_on)
        try:
            process = subprocess.Popen(command)
            if asked_to_end:
                process.send_signal(signal.SIGTERM)
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, earlier)
            if process is not None:
                process.kill()
    if asked_to_end and code:
        raise StoppedError("asked to end: the processes saved their state; the same step again goes on from there")
    if code:
        raise SidlsgError(f"a training process ended with code {code}; what it said is above, each line by its process")
    return Student.load(Path(asked.output))


def read_training(file: Path) -> PodTraining:
    """What `train_in_processes` wrote for its processes."""
    return PodTraining(**json.loads(file.read_text()))
