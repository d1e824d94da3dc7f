"""Very short runs of the real command line, to be killed, damaged and continued."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked import Program

Process = Program | subprocess.Popen[bytes]
ASSETS = Path(__file__).parents[2] / "assets"
RECIPE = {
    "iterations": 6,
    "batch": 4,
    "micro_batch": 2,  # grids and scores are drawn so many at once
    "checkpoint_every": 2,
    "log_every": 1,
    "grids": 1,
    "evaluate_images": 8,
    "export_dtype": "float32",  # so that not one bit of the weights is rounded away before it is compared
}
MEASURED = ("seconds", "images_per_second")
"""What a log says of the machine rather than of the run."""
PATIENCE_S = 240.0
TEMPORARY = (".unfinished-*", ".student.*", ".checkpoint.json.*", ".*.png.*")
"""What a writer that is killed may leave behind."""


TERM = {"lambda_d": 0.1, "lambda_g": 0.03, "freeze": 4, "join": 8}
"""Of a run with real images: the generator is frozen for one iteration, and the adversarial term joins after two."""


def make_real_images(folder: Path) -> Path:
    """A few drawings, encoded."""
    from sidlsg.bundled.domains import SHAPES
    from sidlsg.bundled.real_images import write_real_images
    from sidlsg.stages.real_images import encode_real_images

    write_real_images(SHAPES, folder / "shapes.tar", 40, 0)
    encode_real_images(str(folder / "shapes.tar"), ASSETS / "tiny-sd", [], folder / "set", [].append)
    return folder / "set"


def make_prompts(folder: Path) -> Path:
    """The bundled prompts, curated."""
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.prompts.rules import CurationRules
    from sidlsg.stages.curate import curate

    held_out = read_held_out(ASSETS / "prompts" / "held_out.txt")
    curate(ASSETS / "prompts" / "prompts.parquet", folder, CurationRules(), held_out)
    return folder


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class TinyRun:
    """A run in a folder of its own; the same command again continues it."""

    folder: Path
    prompts: Path
    processes: int = 1
    changes: dict[str, object] = field(default_factory=dict)
    place: str = ""
    """Of the checkpoints; empty for `checkpoints` in the folder."""
    environment: dict[str, str] = field(default_factory=dict)
    recipe: str = "tiny"
    real_images: Path | None = None
    teacher: Path = ASSETS / "tiny-sd"

    @property
    def student(self) -> Path:
        """Where the student goes."""
        return self.folder / "student"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints go, if to a folder."""
        return self.folder / "checkpoints"

    def words(self) -> list[str]:
        """The command line, without the program's name."""
        values = RECIPE | self.changes | ({"adversarial": TERM} if self.real_images else {})
        return [
            "distil",
            *("--prompts", str(self.prompts)),
            *("--teacher", str(self.teacher)),
            *("--recipe", self.recipe),
            *("--output", str(self.student)),
            *("--checkpoints", self.place or str(self.checkpoints)),
            *(("--real-images", str(self.real_images)) if self.real_images else ()),
            *(part for name, value in values.items() for part in ("--set", f"{name}={_text(value)}")),
        ]

    def start(self) -> Process:
        """Start it in a process group of its own, several processes by torchrun; what it says is added to `log`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **self.environment}
        with (self.folder / "log").open("ab") as log:
            given: dict[str, Any] = {"cwd": self.folder, "env": environment, "stdout": log, "stderr": subprocess.STDOUT}
            if self.processes == 1:
                return Program(self.words(), start_new_session=True, **given)
            torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(self.processes)]
            command = [sys.executable, *torchrun, "-m", "sidlsg", *self.words()]
            return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **given)

    def finish(self) -> int:
        """Run it to its end; its exit code."""
        process = self.start()
        try:
            return process.wait(PATIENCE_S)
        finally:
            process.kill()

    def said(self) -> str:
        """All that it said so far."""
        return (self.folder / "log").read_text(errors="replace") if (self.folder / "log").exists() else ""

    def result(self) -> Result:
        """What must be the same, whatever happened on the way."""
        weights = [path.read_bytes() for path in sorted(self.student.rglob("*.safetensors"))]
        rows = [json.loads(line) for line in (self.student / "training_log.jsonl").read_text().splitlines()]
        log = [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]
        return Result(b"".join(weights), log)

    def manifest(self) -> dict[str, object]:
        """What the newest checkpoint in the folder says of itself; empty where there is none."""
        newest = max(self.checkpoints.glob("*/checkpoint.json"), default=None)
        return {} if newest is None else json.loads(newest.read_text())

    def halfway(self) -> bool:
        """Whether the newest checkpoint lies between the two updates of an iteration."""
        counters = self.manifest().get("counters", {})
        return isinstance(counters, dict) and bool(counters.get("fake_score_done"))

    def remains(self) -> list[str]:
        """What was left of writers that were killed."""
        found = (path for pattern in TEMPORARY for path in self.folder.rglob(pattern))
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


@dataclass(frozen=True)
class Result:
    """A finished run's weights, to the byte, and its log without the times."""

    weights: bytes
    log: list[dict[str, float]]

    def difference(self, other: Result) -> str | None:
        """In words, where another run ended otherwise; None where it did not."""
        if len(self.log) != len(other.log):
            return f"{len(other.log)} rows in the log, and not {len(self.log)}"
        for row, its in zip(self.log, other.log, strict=True):
            for name in row.keys() | its.keys():
                if row.get(name) != its.get(name):
                    return f"{name} of iteration {row['iteration']} is {its.get(name)}, and not {row.get(name)}"
        return None if self.weights == other.weights else "other weights"
