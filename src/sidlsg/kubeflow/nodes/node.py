"""One process of a node: fetches the inputs, trains as `sidlsg distil` does, and uploads the student."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from sidlsg.distil.supervisor import ProcessNotes, RestartPolicy, supervise
from sidlsg.kubeflow.nodes.job_spec import EMBEDDINGS, PROMPTS, STAGED
from sidlsg.kubeflow.nodes.staging import HEARTBEAT_S, SILENCE_S, Staging, heartbeat_watched
from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.hardware import require_gpus
from sidlsg.stages.training import PodTraining, train
from sidlsg.storage.records import Student


def train_on_node(
    uri: str, sha256: str, report: Callable[[str], None], every: float = HEARTBEAT_S, silence: float = SILENCE_S
) -> Student:
    """Train as one of the processes that torchrun started, with the job spec of this digest in a job's staging area.

    Training ends if the launcher's heartbeat, which is checked every `every` seconds, is missing for `silence` seconds.

    Raises:
        InputError: GPUs, the job spec or an input are missing or cannot be used.
        StoppedError: the process was asked to end, and saved its state.
        AlarmError: an alarm ended the run.
    """
    require_gpus()
    staging = Staging(uri, create=False)
    spec = staging.job_spec(sha256)
    inputs = staging.download_inputs(spec)

    output = inputs.with_name(f"{inputs.name}-student")
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    del values["prompts_sha256"], values["inputs"]
    for name, value in values.items():
        if str(value).startswith(STAGED):
            values[name] = str(inputs / value.removeprefix(STAGED))
    training = PodTraining(
        **values,
        prompts=str(inputs / PROMPTS),
        embeddings=str(inputs / EMBEDDINGS) if (inputs / EMBEDDINGS).is_dir() else "",
        output=str(output),
    )
    is_rank0 = os.environ.get("RANK", "0") == "0"
    if not is_rank0:
        return train(training, report)

    def abandon() -> None:
        # The cluster restarts failed nodes, and these are no longer needed.
        with contextlib.suppress(SidlsgError):
            staging.withdraw()
        os.kill(os.getpid(), signal.SIGTERM)

    with heartbeat_watched(staging.store, report, abandon, every, silence):
        student = train(training, report)
        staging.upload_student(output)
        report(f"student of {student.images_seen:,} images in {uri}")
    return student


def run_node(uri: str, sha256: str, shutdown_timeout: int, report: Callable[[str], None]) -> None:
    """Run this node's processes once, see `train_on_node`; the JobSet restarts all nodes together.

    Raises:
        SidlsgError: the processes' own error, with its exit code; or a process was killed.
        StoppedError: this node was asked to end, and its processes had `shutdown_timeout` seconds to save their state.
    """
    with tempfile.TemporaryDirectory() as notes:
        # torchrun finds its node and its peers in the variables that Trainer sets.
        command = [sys.executable, "-m", "torch.distributed.run", f"--shutdown-timeout={shutdown_timeout}"]
        command += ["-m", "sidlsg", "distil-node-process", uri, "--sha256", sha256, "--notes", notes]
        supervise(command, ProcessNotes(Path(notes)), RestartPolicy(), report)
