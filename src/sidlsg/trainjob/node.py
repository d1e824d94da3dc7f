"""What each process of each node does: fetches the inputs, trains as `sidlsg distil` does, hands the student over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sidlsg.distil.stage import Extras, distil, run_identity, run_name
from sidlsg.hardware import require_gpus
from sidlsg.places import resolve
from sidlsg.prompts.held_out import read_held_out
from sidlsg.records import Student
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.source import teacher_folder
from sidlsg.trainjob.handover import Handover
from sidlsg.trainjob.lifeline import BEAT_S, SILENCE_S, watched
from sidlsg.trainjob.order import EMBEDDINGS, PROMPTS, STAGED


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

    values = order.values
    teacher = teacher_folder(local(order.teacher), layout=local(order.teacher_layout))
    identity = run_identity(values, folder_digest(teacher), order.prompts_sha256, order.seed)
    evaluated = values.evaluate_every > 0
    extras = Extras(
        embeddings=inputs / EMBEDDINGS if (inputs / EMBEDDINGS).is_dir() else None,
        held_out=read_held_out(resolve(local(order.held_out))) if evaluated else (),
        judge=resolve(local(order.judge)) if evaluated else None,
        tracking_uri=order.tracking_uri,
        experiment=order.experiment,
    )
    output = inputs.with_name(f"{inputs.name}-student")

    def train() -> Student:
        return distil(
            prompts=inputs / PROMPTS,
            teacher=teacher,
            output=output,
            recipe=values,
            seed=order.seed,
            checkpoints=f"{order.checkpoints}/{run_name(values, identity)}",
            report=report,
            extras=extras,
        )

    if not leads:
        return train()
    with watched(handover.store, report, every, silence):
        student = train()
        handover.give(Path(output))
        report(f"student of {student.images_seen:,} images in {place}")
    return student
