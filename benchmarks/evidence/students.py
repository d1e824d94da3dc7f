"""Trains and scores students by this project's own commands; what is finished is not done again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies import RECIPE, Training

from sidlsg.storage.uri import uri_digest
from sidlsg.teacher.format import DIFFUSERS

ROOTS = {"shapes": "bundled:", "scenes": "bundled:scenes/"}
"""What the names of a domain's files start with."""
SCORES = ("fid_judge", "fid_efficientnet", "precision_judge", "recall_judge", "attributes", "all_attributes")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A folder of prompt sets, students and scorecards of one domain."""

    work: Path
    domain: str
    root: str
    """What the URIs of teacher, judge and prompts start with."""
    _locks: dict[tuple[Training, int], threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    @property
    def log(self) -> Path:
        """What the commands print."""
        return self.work / "log.txt"

    @property
    def inputs(self) -> dict[str, str]:
        """URIs by option."""
        return {
            "--teacher": f"{self.root}tiny-sd",
            "--held-out": f"{self.root}prompts/held_out.txt",
            "--judge": f"{self.root}judge/judge.safetensors",
        }

    def identity(self, images: int) -> dict[str, Any]:
        """What scores depend on; `images` are scored of the teacher at each setting."""
        uris = {**self.inputs, "--source": f"{self.root}prompts/prompts.parquet"}
        digests = {option[2:]: uri_digest(uri, folder=DIFFUSERS) for option, uri in uris.items()}
        return {"domain": self.domain, "images": images, "recipe": RECIPE.digest, **digests}

    def folder(self, training: Training, seed: int) -> Path:
        """Where a training's state, student and scores are."""
        return self.work / training.name / f"{seed}"

    def card(self, training: Training, seed: int) -> Path:
        """Its scorecard, which may be missing."""
        return self.folder(training, seed) / "scores" / "scorecard.json"

    def grids(self, training: Training, seed: int) -> list[Path]:
        """Its grids, by images seen."""
        return sorted((self.folder(training, seed) / "state").rglob("grids/*.png"))

    def row(self, training: Training, seed: int) -> dict[str, Any]:
        """What `Results` keeps of its student, however many steps that takes."""
        subjects = json.loads(self.card(training, seed).read_text())["subjects"]
        student = [each for each in subjects if each["subject"].startswith("student")][-1]
        record = json.loads((self.folder(training, seed) / "student" / "student.json").read_text())
        newest = max((self.folder(training, seed) / "state").rglob("checkpoint.json"))
        return {
            "scores": {score["name"]: score["value"] for score in student["scores"] if score["name"] in SCORES},
            **{name: record[name] for name in ("git_commit", "hardware", "seconds")},
            "prompts": json.loads((self._prompts(training.least_score) / "prompt_set.json").read_text())["count"],
            "curve": json.loads(newest.read_text())["counters"]["evaluations"] if training.curve else [],
        }

    def prepare(self, trainings: Collection[Training]) -> None:
        """Make what several trainings share: prompt sets, and real images."""
        captions = ("--held-out", self.inputs["--held-out"])
        for least_score in {training.least_score for training in trainings}:
            folder = self._prompts(least_score)
            if not (folder / "prompt_set.json").exists():
                source = f"{self.root}prompts/prompts.parquet"
                rule = f"score.minimum={least_score:g}"
                self._sidlsg("curate", "--source", source, *captions, "--set", rule, "--output", folder)
        real = self.work / "real"
        if any(training.real_images for training in trainings) and not (real / "real_image_set.json").exists():
            drawn = self.work / "drawn.tar"
            if not drawn.exists():
                self._sidlsg("images", "draw", "--domain", self.domain, "--output", drawn)
            teacher = ("--teacher", self.inputs["--teacher"])
            self._sidlsg("images", "encode", drawn, *teacher, *captions, "--output", real, "--licence", "CC0-1.0")

    def make(self, training: Training, seed: int) -> dict[str, Any]:
        """Distil and score a student, if its scorecard is missing; its start, if any, before. Returns its row."""
        with self._locks[training, seed]:
            if self.card(training, seed).exists():
                return self.row(training, seed)
            folder, more = self.folder(training, seed), list[str | Path]()
            for name, value in training.changes.items():
                more += ["--set", f"{name}={json.dumps(value)}"]
            if training.start:
                self.make(training.start, seed)
                more += ["--generator-from", self.folder(training.start, seed) / "student"]
            if training.real_images:
                more += ["--real-images", self.work / "real"]
            inputs = [part for pair in self.inputs.items() for part in pair]
            self._sidlsg(
                "distil", "--recipe", RECIPE.name, *inputs, "--seed", f"{seed}", *more,
                "--prompts", self._prompts(training.least_score),
                "--checkpoints", folder / "state", "--output", folder / "student",
            )  # fmt: skip
            self._sidlsg("evaluate", *inputs, "--student", folder / "student", "--output", folder / "scores")
            return self.row(training, seed)

    def _prompts(self, least_score: float) -> Path:
        return self.work / f"prompts-{least_score:g}"

    def _sidlsg(self, *arguments: str | Path) -> None:
        """Run a command of this project in one thread; its output goes to a log beside the work."""
        with self.log.open("a") as log:
            command = [sys.executable, "-m", "sidlsg", *map(str, arguments)]
            alone = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, env=alone, stdout=log, stderr=subprocess.STDOUT, check=True)
