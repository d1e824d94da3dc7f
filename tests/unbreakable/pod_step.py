"""The step `distil` as a pod runs it: `python pod_step.py FOLDER`, with the prompts and embeddings in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kfp.dsl import Dataset, Model

from sidlsg.components.distil.component import distil

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
    os.environ["SIDLSG_CHECKPOINTS"] = str(folder / "checkpoints")
    student = Model(name="student", uri=str(folder / "student"), metadata={})
    distil.python_func(
        prompt_set=Dataset(name="prompt_set", uri=str(folder / "prompts"), metadata={}),
        embeddings=Dataset(name="embeddings", uri=str(folder / "embeddings"), metadata={}),
        teacher="bundled:tiny-sd",
        teacher_layout="",
        recipe="tiny",
        changes=CHANGES,
        seed=3,
        held_out="",
        judge="",
        results_version="code",
        student=student,
    )
