"""The workflows as GitHub reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"


@dataclass(frozen=True)
class Workflow:
    """One file."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def content(self) -> dict[Any, Any]:
        # YAML 1.1, which this reader has, takes the key `on` for a truth value.
        content: dict[Any, Any] = yaml.safe_load(self.text)
        return {"on" if key is True else key: value for key, value in content.items()}

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        jobs: dict[str, dict[str, Any]] = self.content["jobs"]
        return jobs

    def steps(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each step, with its job's name."""
        for name, job in self.jobs.items():
            for step in job.get("steps", []):
                yield name, step

    def script(self, name: str) -> str:
        """What a step of that name runs."""
        (found,) = (str(step["run"]) for _, step in self.steps() if step["name"] == name)
        return found


WORKFLOWS = {path.stem: Workflow(path) for path in sorted(FOLDER.glob("*.yml"))}
