"""What a local run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidlsg.runtime.costs import Cost
from sidlsg.storage.records import ModelVersion, Promotion, Scorecard, Verdict


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """How one stage of a run went."""

    name: str
    cached: bool
    """Whether its earlier result was used again."""
    seconds: float
    """Of this run: 0 for a cached stage."""
    setting: str = ""
    """Of a sweep; empty for a stage that serves all settings."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What every run left."""

    log: Path
    """Everything that the stages and their libraries printed."""
    tracking_uri: str
    stages: tuple[StageRun, ...]
    seconds: float

    @property
    def cached(self) -> tuple[str, ...]:
        """Names of the stages whose earlier results were used again."""
        return tuple(stage.name for stage in self.stages if stage.cached)


@dataclass(frozen=True, kw_only=True)
class RunResult(Result):
    """What a run of the whole pipeline left, by place and as records."""

    prompts: Path
    """Folder of the PromptSet."""
    student: Path
    """The student's diffusers folder."""
    scorecard_folder: Path
    """Scorecard and image grids."""
    report: Path
    """The HTML page."""
    version: ModelVersion
    scorecard: Scorecard
    verdict: Verdict
    promotion: Promotion
    cost: Cost
    """Of each stage, with the time that it took when it ran."""


@dataclass(frozen=True, kw_only=True)
class SettingResult:
    """What a sweep left of one setting."""

    setting: str
    student: Path
    """The student's diffusers folder."""
    scorecard_folder: Path
    scorecard: Scorecard
    version: ModelVersion


@dataclass(frozen=True, kw_only=True)
class SweepResult(Result):
    """What a sweep left, by place and as records."""

    settings: tuple[SettingResult, ...]
    scoreboard: Path
    """The HTML page."""


@dataclass(frozen=True, kw_only=True)
class EvaluateResult(Result):
    """What an evaluation of a registered version left, by place and as records."""

    scorecard_folder: Path
    """Scorecard and image grids."""
    page: Path
    """The HTML page."""
    version: ModelVersion
    scorecard: Scorecard
    verdict: Verdict
