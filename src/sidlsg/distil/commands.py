"""The command that each process of a training step runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def distil_process(
    training: Annotated[Path, typer.Argument(help="The file in which the step says what to do.")],
) -> None:
    """Train as one of a step's processes, under torchrun; the distil component starts it."""
    from sidlsg.distil.pod import read_training, train
    from sidlsg.run.lines import say

    train(read_training(training), say)
