"""The file of scores that the page is made from; it holds what a new training would only repeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies import Training

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class Results:
    """Scores of one domain's files; saved after each addition."""

    file: Path
    inputs: Mapping[str, Any]
    """Domain, number of scored images, digests of recipe and files."""
    teacher: dict[str, dict[str, float]] = field(default_factory=dict)
    """Scores by setting, and of real images."""
    students: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By training's name and seed: `scores`, `git_commit`, `hardware`, `seconds` of training, number of `prompts`, and
    `curve`: rows of scores on the way."""

    @classmethod
    def load(cls, file: Path, inputs: Mapping[str, Any]) -> Results:
        """The file's results, or none yet; raises InputError if they are of other inputs."""
        found = cls(file=file, inputs=inputs)
        if file.exists():
            kept = json.loads(file.read_text())
            for name, value in inputs.items():
                if kept["inputs"].get(name) != value:
                    raise InputError(
                        f"{file} has results for {name} {kept['inputs'].get(name)}, not {value}; "
                        "give another file as --results"
                    )
            found.teacher.update(kept["teacher"])
            found.students.update(kept["students"])
        return found

    def save(self) -> None:
        """Write the file."""
        rows = {name: dict(sorted(seeds.items())) for name, seeds in sorted(self.students.items())}
        content = {"inputs": self.inputs, "teacher": self.teacher, "students": rows}
        atomic_write(self.file, json.dumps(content, indent=1) + "\n")

    def has(self, training: Training, seed: int) -> bool:
        """Whether a training's student is scored."""
        return f"{seed}" in self.students.get(training.name, {})

    def add(self, training: Training, seed: int, row: dict[str, Any]) -> None:
        """Keep a student's row, in the file too."""
        self.students.setdefault(training.name, {})[f"{seed}"] = row
        self.save()

    def rows(self, training: Training) -> list[tuple[str, dict[str, Any]]]:
        """Seeds and rows of a training's students."""
        return sorted(self.students.get(training.name, {}).items())

    def scores(self, study: Mapping[str, Training]) -> dict[str, dict[str, dict[str, float]]]:
        """Scores by label and seed of a study's students."""
        return {label: {seed: row["scores"] for seed, row in self.rows(each)} for label, each in study.items()}
