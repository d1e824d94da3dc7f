"""What a run on this machine is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidlsg.stages.sweep import SETTINGS
from sidlsg.storage.uri import HELD_OUT, JUDGE, PROMPTS, TEACHER


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every pipeline is asked for; the defaults need nothing from outside."""

    run_dir: Path
    """Where everything goes: results, checkpoints, the registry and the cache of stages."""
    recipe: str = "tiny"
    held_out: str = HELD_OUT
    """Place of the evaluation captions, see `sidlsg.storage.uri`; so are the next ones."""
    teacher: str = TEACHER
    teacher_layout: str = ""
    """Place of the small files of a teacher that is one safetensors file; empty for a folder."""
    judge: str = JUDGE
    model_name: str = "sidlsg-tiny"
    tracking_uri: str = ""
    """MLflow's address; empty for a store inside the run folder."""
    protocols: tuple[str, ...] = ()
    """Published protocols to score under as well."""
    weights: Path | None = None
    """The weights.toml that names the files which those need."""
    teacher_settings: tuple[str, ...] = ()
    """Settings of the teacher to score beside the student; none for the default."""
    keep_images: str = ""
    """Place that receives the generated images; empty to keep none."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest(Request):
    """What pipelines that train are asked for besides."""

    changes: str = "{}"
    """JSON object of the recipe's values to replace."""
    seed: int | str = 0
    """A whole number, or `fresh` for one that follows from the run."""
    prompts: str = PROMPTS
    """Place of the parquet file of captions."""
    rules: str = "{}"
    """JSON object of curation rules to replace."""
    embeddings_gb: float = 0.0
    """Most gigabytes that text states may take; 0 to encode prompts during training."""


@dataclass(frozen=True, kw_only=True)
class RunRequest(TrainingRequest):
    """One run of the whole pipeline on this machine."""

    hourly_price: float = 0.0
    """Price an hour of a stage that `prices` does not name, for the costs in the report."""
    prices: str = "{}"
    """JSON object of prices an hour by stage."""
    gate_rules: Path | None = None
    """TOML file of the gate's rules; None for the recipe's."""


@dataclass(frozen=True, kw_only=True)
class SweepRequest(TrainingRequest):
    """One student a guidance setting, compared."""

    settings: tuple[str, ...] = SETTINGS
    """See `sidlsg.stages.sweep.parse_setting`."""


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Request):
    """A registered version scored again, and judged by the recipe's gate."""

    version: str = "champion"
    """Its number, or an alias."""
    gate_rules: Path | None = None
    """TOML file of the gate's rules; None for the recipe's."""
