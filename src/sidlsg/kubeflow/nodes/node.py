"""What each process of each node does: fetches the inputs, trains as `sidlsg distil` does, hands the student over."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sidlsg.distil.process_notes import ProcessNotes
from sidlsg.distil.supervisor import RestartPolicy, supervise
from sidlsg.kubeflow.nodes.handover import BEAT_S, SILENCE_S, Handover, watched
from sidlsg.kubeflow.nodes.order import EMBEDDINGS, PROMPTS, STAGED
from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.hardware import require_gpus
from sidlsg.stages.distil_processes import PodTraining, train
from sidlsg.storage.records import Student


def train_on_node(
    place: str, sha256: str, report: Callable[[str], None], every: float = BEAT_S, silence: float = SILENCE_S
) -> Student:
    """Do what the order in a handover says, as one of the processes that torchrun started.

    Args:
        place: of the job's handover.
        sha256: digest of the order.
        report: receives lines for the user.
        every: seconds between two looks for the step that waits.
        silence: after how many seconds without a sign of it training ends.

    Raises:
        InputError: the order or an input is missing or is another, or cannot be used; or GPUs are missing.
        StoppedError: the process was asked to end, and saved its state.
        AlarmError: an alarm ended the run.
    """
    require_gpus()
    handover = Handover(place, create=False)
    order = handover.order(sha256)
    inputs = handover.fetch(order)
    leads = os.environ.get("RANK", "0") == "0"

    def local(given: str) -> str:
        return str(inputs / given.removeprefix(STAGED)) if given.startswith(STAGED) else given

    output = inputs.with_name(f"{inputs.name}-student")
    asked = PodTraining(
        prompts=str(inputs / PROMPTS),
        embeddings=str(inputs / EMBEDDINGS) if (inputs / EMBEDDINGS).is_dir() else "",
        teacher=local(order.teacher),
        teacher_layout=local(order.teacher_layout),
        recipe=order.recipe,
        changes=order.changes,
        seed=order.seed,
        checkpoints=order.checkpoints,
        held_out=local(order.held_out),
        judge=local(order.judge),
        tracking_uri=order.tracking_uri,
        experiment=order.experiment,
        output=str(output),
    )

    def abandoned() -> None:
        # The cluster restarts nodes that failed, and nobody waits for these.
        with contextlib.suppress(SidlsgError):
            handover.withdraw()
        os.kill(os.getpid(), signal.SIGTERM)

    if not leads:
        return train(asked, report)
    with watched(handover.store, report, abandoned, every, silence):
        student = train(asked, report)
        handover.give(output)
        report(f"student of {student.images_seen:,} images in {place}")
    return student


def run_node(handover: str, sha256: str, shutdown_timeout: int, report: Callable[[str], None]) -> None:
    """Run this node's processes once; a restart is the JobSet's, for all nodes together.

    Args:
        handover: the job's own URI or folder.
        sha256: digest of the order there.
        shutdown_timeout: seconds that processes may take to save their state when the node is asked to end.
        report: receives lines for the user.

    Raises:
        SidlsgError: the processes' own error, with its exit code; or a process was killed.
        StoppedError: this node was asked to end.
    """
    with tempfile.TemporaryDirectory() as notes:
        # torchrun finds its node and its peers in the variables that Trainer sets.
        command = [sys.executable, "-m", "torch.distributed.run", f"--shutdown-timeout={shutdown_timeout}"]
        command += ["-m", "sidlsg", "distil-node-process", handover, "--sha256", sha256, "--notes", notes]
        supervise(command, ProcessNotes(Path(notes)), RestartPolicy(), report)
