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

from sidlsg.runtime.errors import InputError
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
    def inputs(self) -> dict[str, str]:
        """URIs by option."""
        return {
            "--teacher": f"{self.root}tiny-sd",
            "--held-out": f"{self.root}prompts/held_out.txt",
            "--judge": f"{self.root}judge/judge.safetensors",
        }

    def require_inputs(self, images: int) -> None:
        """Refuse a folder with the results of other inputs; `images` are scored of the teacher at each setting."""
        uris = {**self.inputs, "--source": f"{self.root}prompts/prompts.parquet"}
        digests = {option[2:]: uri_digest(uri, folder=DIFFUSERS) for option, uri in uris.items()}
        wanted = {"domain": self.domain, "images": images, "recipe": RECIPE.digest, **digests}
        file = self.work / "inputs.json"
        found = json.loads(file.read_text()) if file.exists() else wanted
        for name, value in wanted.items():
            if found.get(name) != value:
                raise InputError(
                    f"{self.work} has results for {name} {found.get(name)}, not {value}; give another folder as --work"
                )
        file.write_text(json.dumps(wanted, indent=1) + "\n")

    def folder(self, training: Training, seed: int) -> Path:
        """Where a training's state, student and scores are."""
        return self.work / training.name / f"{seed}"

    def card(self, training: Training, seed: int) -> Path:
        """Its scorecard, which may be missing."""
        return self.folder(training, seed) / "scores" / "scorecard.json"

    def scores(self, training: Training, seed: int) -> dict[str, float]:
        """The scores of a training's student, however many steps it takes."""
        subjects = json.loads(self.card(training, seed).read_text())["subjects"]
        student = [each for each in subjects if each["subject"].startswith("student")][-1]
        return {score["name"]: score["value"] for score in student["scores"] if score["name"] in SCORES}

    def curve(self, training: Training, seed: int) -> list[dict[str, float]]:
        """The scores on the way of a training, by images seen."""
        newest = max((self.folder(training, seed) / "state").rglob("checkpoint.json"))
        rows: list[dict[str, float]] = json.loads(newest.read_text())["counters"]["evaluations"]
        return rows

    def grids(self, training: Training, seed: int) -> list[Path]:
        """Its grids, by images seen."""
        return sorted((self.folder(training, seed) / "state").rglob("grids/*.png"))

    def prompts(self, training: Training) -> int:
        """How many prompts its training has."""
        count: int = json.loads((self._prompts(training.least_score) / "prompt_set.json").read_text())["count"]
        return count

    def record(self, training: Training, seed: int) -> dict[str, Any]:
        """The record of its student: commit, hardware, seconds of training."""
        found: dict[str, Any] = json.loads((self.folder(training, seed) / "student" / "student.json").read_text())
        return found

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

    def make(self, training: Training, seed: int) -> None:
        """Distil and score a student, if its scorecard is missing; its start, if any, before."""
        with self._locks[training, seed]:
            if self.card(training, seed).exists():
                return
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

    def _prompts(self, least_score: float) -> Path:
        return self.work / f"prompts-{least_score:g}"

    def _sidlsg(self, *arguments: str | Path) -> None:
        """Run a command of this project in one thread; its output goes to a log beside the work."""
        with (self.work / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "sidlsg", *map(str, arguments)]
            alone = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, env=alone, stdout=log, stderr=subprocess.STDOUT, check=True)


def label_scores(workshop: Workshop, trainings: dict[str, Training], seeds: range) -> dict[str, dict[str, Any]]:
    """Scores by label and seed of a study's trainings that are finished."""
    return {
        label: {f"{s}": workshop.scores(training, s) for s in seeds if workshop.card(training, s).exists()}
        for label, training in trainings.items()
    }
