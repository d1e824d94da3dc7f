"""What a local run is asked for, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidlsg.places import HELD_OUT, JUDGE, PROMPTS, TEACHER
from sidlsg.records import ModelVersion, Promotion, Scorecard, Verdict


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run of the whole pipeline on this machine; the defaults need nothing from outside."""

    run_dir: Path
    """Where everything goes: results, checkpoints, the registry and the cache of stages."""
    recipe: str = "tiny"
    changes: str = "{}"
    """JSON object of the recipe's values to replace."""
    seed: int = 0
    prompts: str = PROMPTS
    """Place of the parquet file of captions, see `sidlsg.places`; so are the next ones."""
    rules: str = "{}"
    """JSON object of curation rules to replace."""
    held_out: str = HELD_OUT
    teacher: str = TEACHER
    teacher_layout: str = ""
    """Place of the small files of a teacher that is one safetensors file; empty for a folder."""
    judge: str = JUDGE
    model_name: str = "sidlsg-tiny"
    tracking_uri: str = ""
    """MLflow's address; empty for a store inside the run folder."""
    embeddings_gb: float = 0.0
    """Most gigabytes that text states may take; 0 to encode prompts during training."""
    hourly_price: float = 0.0
    """Price of this machine an hour, for the costs in the report."""


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """How one stage of a run went."""

    name: str
    cached: bool
    """Whether its earlier result was used again."""
    seconds: float
    """Of this run: 0 for a cached stage."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run left, by place and as records."""

    prompts: Path
    """Folder of the PromptSet."""
    student: Path
    """The student's diffusers folder."""
    scorecard_folder: Path
    """Scorecard and image grids."""
    report: Path
    """The HTML page."""
    log: Path
    """Everything that the stages and their libraries printed."""
    tracking_uri: str
    version: ModelVersion
    scorecard: Scorecard
    verdict: Verdict
    promotion: Promotion
    stages: tuple[StageRun, ...]
    seconds: float

    @property
    def cached(self) -> tuple[str, ...]:
        """Names of the stages whose earlier results were used again."""
        return tuple(stage.name for stage in self.stages if stage.cached)
