"""The command that a node of a TrainJob runs."""

from __future__ import annotations

from typing import Annotated

import typer


def distil_node(
    handover: Annotated[str, typer.Argument(help="The job's own place, as the step that started it names it.")],
    sha256: Annotated[str, typer.Option(help="Digest of the order that lies there.")],
) -> None:
    """Train as one of a TrainJob's nodes, under torchrun; the distil_nodes component starts it."""
    from sidlsg.run.lines import say
    from sidlsg.trainjob.node import train_on_node

    train_on_node(handover, sha256, say)
