"""The command that each process of a training step runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def distil_process(
    training: Annotated[Path, typer.Argument(help="The file in which the step says what to do.")],
) -> None:
    """Train as the step's child, or as one of several under torchrun; the distil component starts it."""
    from sidlsg.distil.process_notes import ProcessNotes
    from sidlsg.runtime.distributed import end_with
    from sidlsg.runtime.progress import note as say
    from sidlsg.stages.distil_processes import read_training, train

    # What started this process may be killed, and must not leave it to train beside its successor.
    end_with(os.getppid())
    notes = ProcessNotes(training.parent)
    with notes.recording():
        train(read_training(training), say, notes)
