"""A launch of two nodes, with short timeouts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, ClusterTimeouts
from sidlsg.kubeflow.nodes.job_spec import Bundle, pack
from sidlsg.kubeflow.nodes.launcher import distil_on_nodes
from sidlsg.kubeflow.nodes.monitor import WatchIntervals
from sidlsg.kubeflow.nodes.settings import Nodes, NodeSettings
from sidlsg.stages.training import PodTraining
from sidlsg.storage.records import Student

IMAGE = f"registry.example.com/sidlsg/sidlsg-train@sha256:{'0123456789abcdef' * 4}"
CHANGES = (
    '{"iterations": 2, "batch": 4, "micro_batch": 4, "grids": 1, "log_every": 1, "evaluate_every": 0, '
    '"on_alarm": "off"}'
)
"""Of the student that all tests share."""
QUICK = WatchIntervals(running=60, queued=60, poll=0.01, report=0.05, margin=0.5, deletion=5)
SHORT = ClusterTimeouts(total=20, reach=5, first=0.01, longest=0.05, connect=2, read=0.5)


def make_nodes(folder: Path, **values: Any) -> Nodes:
    """Two nodes that see `folder/shared`."""
    settings = NodeSettings(volumes={"shared": str(folder / "shared")})
    usual = {"nodes": 2, "gpus_per_node": 1, "image": IMAGE, "timeout_minutes": 60, "settings": settings}
    return Nodes(**(usual | {"handover": str(folder / "shared" / "handover")} | values))


def make_bundle(student: Path, folder: Path, **values: Any) -> Bundle:
    """The job spec and files of the student that all tests share."""
    usual = {"prompts": str(student.parent / "prompts"), "recipe": "tiny", "changes": CHANGES, "seed": 0, "output": ""}
    places = {"checkpoints": str(folder / "shared" / "checkpoints"), "teacher": "bundled:tiny-sd"}
    return pack(PodTraining(**(usual | places | values)))


@dataclass
class Launch:
    """A step that starts a job and waits for it; it can be done again."""

    bundle: Bundle
    folder: Path
    cluster: Cluster
    nodes: Nodes
    intervals: WatchIntervals = QUICK
    reported: list[str] = field(default_factory=list)
    loud: bool = False
    """Whether reported lines are printed, too."""

    @property
    def output(self) -> Path:
        return self.folder / "output" / "student"

    @property
    def handover(self) -> Path:
        return Path(self.nodes.handover)

    def do(self) -> Student:
        return distil_on_nodes(self.bundle, self.output, self.nodes, self.report, self.cluster, self.intervals)

    def report(self, line: str) -> None:
        self.reported.append(line)
        if self.loud:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def left(self) -> list[Path]:
        """The staged files."""
        return sorted(self.handover.rglob("*"))

    def text(self) -> str:
        return "\n".join(self.reported)
