"""The `distil` stage as a pipeline step: in this process, or in child processes that are restarted if they die."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.distil.supervisor import ProcessNotes, RestartPolicy, restart_policy, supervise
from sidlsg.prompts.held_out import read_held_out
from sidlsg.runtime.hardware import require_gpus
from sidlsg.runtime.overrides import changes_text
from sidlsg.runtime.progress import note
from sidlsg.runtime.provenance import checkpoints_place
from sidlsg.stages import timed
from sidlsg.stages.failures import recipe_changes, recording_failure
from sidlsg.storage.real_image_set import real_images_beside
from sidlsg.storage.records import PromptSet, Student
from sidlsg.storage.uri import resolve
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.source import checked_teacher

GRACE_S = 600
"""Seconds that processes have to save their state and exit."""


@dataclass(frozen=True, kw_only=True)
class PodTraining:
    """The inputs of the component `distil`; its description explains them."""

    prompts: str
    embeddings: str = ""
    """Empty to encode prompts during training."""
    teacher: str
    teacher_layout: str = ""
    recipe: str
    changes: str
    seed: int
    checkpoints: str
    held_out: str = ""
    """Required, like the judge, if the recipe evaluates during training."""
    judge: str = ""
    tracking_uri: str = ""
    experiment: str = ""
    output: str


@timed
def distil_step(setting: Mapping[str, Any], changes: Mapping[str, Any], **inputs: Any) -> Student | None:
    """Train in this pod; None if a failure is recorded instead. See `training_of` for the inputs."""
    training = training_of(changes, **inputs)
    with recording_failure("distil", setting, Path(training.output)):
        return train_in_pod(training, note)
    return None


def training_of(changes: Mapping[str, Any], **inputs: Any) -> PodTraining:
    """The training of a step: its recipe changes and other inputs, and the settings in its environment."""
    return PodTraining(
        changes=changes_text(recipe_changes(changes)),
        checkpoints=checkpoints_place(),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", ""),
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", "sidlsg"),
        **inputs,
    )


def train_in_pod(asked: PodTraining, report: Callable[[str], None]) -> Student:
    """Train with the GPUs that the step asked for.

    With several GPUs, or with a restart policy from a compiled pipeline, training runs in child processes that this
    process supervises. Otherwise, as in a local run, it runs in this process.

    Raises:
        InputError: GPUs are missing, or an input cannot be used.
        SidlsgError: training died, and restarts did not help.
        StoppedError: this process and its training were asked to end.
    """
    gpus, policy = require_gpus(), restart_policy()
    if gpus < 2 and policy is None:
        return train(asked, report)
    return train_in_processes(asked, max(1, gpus), report, policy)


def train(asked: PodTraining, report: Callable[[str], None], notes: ProcessNotes | None = None) -> Student:
    """Train as a single process or as one of torchrun's; writes the checkpoints' URI to `notes`."""
    # Imported here: a step that only supervises must not load torch and diffusers into the pod's memory.
    from sidlsg.distil.run_identity import run_identity, run_name
    from sidlsg.stages.distil import Extras, distil
    from sidlsg.stages.distil_inputs import real_images_digest

    folder, sha256 = checked_teacher(asked.teacher, layout=asked.teacher_layout)
    sha256 = sha256 or folder_digest(folder)
    values = recipe_with_changes(asked.recipe, asked.changes)
    prompts, real_images = Path(asked.prompts), real_images_beside(asked.embeddings)
    identity = run_identity(
        values, sha256, PromptSet.load(prompts).digest, asked.seed, "", real_images_digest(real_images)
    )
    checkpoints = f"{asked.checkpoints}/{run_name(values, identity)}"
    if notes is not None:
        notes.set_checkpoints(checkpoints)
    evaluated = values.evaluate_every > 0
    return distil(
        prompts=prompts,
        teacher=folder,
        output=Path(asked.output),
        recipe=values,
        seed=asked.seed,
        checkpoints=checkpoints,
        report=report,
        extras=Extras(
            teacher_sha256=sha256,
            embeddings=Path(asked.embeddings) if asked.embeddings else None,
            real_images=real_images,
            held_out=read_held_out(resolve(asked.held_out)) if evaluated else (),
            judge=resolve(asked.judge) if evaluated else None,
            tracking_uri=asked.tracking_uri,
            experiment=asked.experiment,
        ),
    )


def train_in_processes(
    asked: PodTraining, processes: int, report: Callable[[str], None], policy: RestartPolicy | None = None
) -> Student:
    """Train in child processes, several under torchrun; by default without restarts. See `train_in_pod`."""
    if processes > 1:
        report(f"{processes} processes, one a GPU")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "training.json"
        file.write_text(json.dumps(asdict(asked)))
        command = [sys.executable]
        if processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            command += [f"--shutdown-timeout={GRACE_S}"]
        command += ["-m", "sidlsg", "distil-process", str(file)]
        supervise(command, ProcessNotes(Path(scratch)), policy or RestartPolicy(), report)
    return Student.load(Path(asked.output))


def read_training(file: Path) -> PodTraining:
    """Read the inputs that `train_in_processes` wrote for its processes."""
    return PodTraining(**json.loads(file.read_text()))
