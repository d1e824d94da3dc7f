"""One node's own command: it starts torchrun, and ends with the processes' exit code, which torchrun does not pass on.

The runtime's failure policy reads that code: a training that would end the same way again is not restarted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sidlsg.distil.process_notes import ProcessNotes
from sidlsg.distil.supervisor import RestartPolicy, supervise


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
