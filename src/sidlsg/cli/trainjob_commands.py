"""The commands that a node of a TrainJob runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

HandoverPlace = Annotated[str, typer.Argument(help="The job's own place, as the step that started it names it.")]
OrderDigest = Annotated[str, typer.Option(help="Digest of the order that lies there.")]


def distil_node(
    handover: HandoverPlace,
    sha256: OrderDigest,
    shutdown_timeout: Annotated[int, typer.Option(help="Seconds that processes may take to save their state.")] = 600,
) -> None:
    """Train as one of a TrainJob's nodes; the distil_nodes component starts it. Ends with its processes' exit code."""
    from sidlsg.kubeflow.nodes.agent import run_node
    from sidlsg.runtime.lines import say

    run_node(handover, sha256, shutdown_timeout, say)


def distil_node_process(
    handover: HandoverPlace,
    sha256: OrderDigest,
    notes: Annotated[Path, typer.Option(help="Folder in which the process leaves its error for the node's command.")],
) -> None:
    """Train as one process of a node, under torchrun; the node's command starts it."""
    from sidlsg.distil.process_notes import ProcessNotes
    from sidlsg.kubeflow.nodes.node import train_on_node
    from sidlsg.runtime.distributed import end_with
    from sidlsg.runtime.lines import say

    end_with(os.getppid())
    with ProcessNotes(notes).recording():
        train_on_node(handover, sha256, say)
