"""What a local run returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidlsg.runtime.costs import Cost
from sidlsg.storage.records import ModelVersion, Promotion, Scorecard, Verdict

LOG = "run.log"


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """How one stage of a run went."""

    name: str
    cached: bool
    """Whether an earlier result was reused."""
    seconds: float
    """0 for a cached stage."""
    setting: str = ""
    """The sweep's setting; empty for a stage that serves all settings."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The results that every run leaves in its folder."""

    run_dir: Path
    page: Path
    """The HTML page."""
    tracking_uri: str
    stages: tuple[StageRun, ...]
    seconds: float

    @property
    def log(self) -> Path:
        """Everything that the stages and their libraries printed."""
        return self.run_dir / LOG

    @property
    def prompts(self) -> Path:
        """Folder of the PromptSet of a run that trains."""
        return self.run_dir / "prompts"

    @property
    def cached(self) -> tuple[str, ...]:
        """Names of the stages whose earlier results were reused."""
        return tuple(stage.name for stage in self.stages if stage.cached)


@dataclass(frozen=True, kw_only=True)
class EvaluateResult(Result):
    """Results of one registered version."""

    version: ModelVersion
    scorecard: Scorecard
    verdict: Verdict

    @property
    def scorecard_folder(self) -> Path:
        """Scorecard and image grids."""
        return self.run_dir / "scorecard"


@dataclass(frozen=True, kw_only=True)
class RunResult(EvaluateResult):
    """Results of the whole pipeline."""

    promotion: Promotion
    cost: Cost
    """Of each stage, a cached one at what it took when it ran."""

    @property
    def student(self) -> Path:
        """The student's diffusers folder."""
        return self.run_dir / "student"


@dataclass(frozen=True, kw_only=True)
class SettingResult:
    """Results of one setting of a sweep."""

    setting: str
    student: Path
    """The student's diffusers folder."""
    scorecard_folder: Path
    scorecard: Scorecard
    version: ModelVersion


@dataclass(frozen=True, kw_only=True)
class SweepResult(Result):
    """Results of a sweep."""

    settings: tuple[SettingResult, ...]
