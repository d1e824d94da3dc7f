"""What the step `distil` does in its pod: `python pod_step.py FOLDER`, with the prompts and embeddings in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sidlsg.runtime.progress import note as say
from sidlsg.stages.training import PodTraining, train_in_pod

CHANGES = {
    "iterations": 12,
    "batch": 4,
    "micro_batch": 4,
    "checkpoint_every": 2,
    "log_every": 1,
    "grids": 0,
    "evaluate_every": 0,
    "on_alarm": "off",
    "export_dtype": "float32",
    "processes": 1,
    "threads": 1,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    train_in_pod(
        PodTraining(
            prompts=str(folder / "prompts"),
            embeddings=str(folder / "embeddings"),
            teacher="bundled:tiny-sd",
            recipe="tiny",
            changes=json.dumps(CHANGES),
            seed=3,
            checkpoints=str(folder / "checkpoints"),
            output=str(folder / "student"),
        ),
        say,
    )
