"""The request for a run on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidlsg.stages.sweep import SETTINGS
from sidlsg.storage.uri import HELD_OUT, JUDGE, PROMPTS, TEACHER

MARKER = "run.json"
"""The marker of a run folder: the pipeline, the request, and how the run ended."""


def run_store(run_dir: Path) -> str:
    """The tracking URI of the MLflow store inside a run folder."""
    return f"sqlite:///{run_dir / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Values for a pipeline, which uses those that are its parameters; the defaults need no external data."""

    run_dir: Path
    """Folder of the results, checkpoints, registry and cache of stages."""
    recipe: str = "tiny"
    changes: str = "{}"
    """JSON object of the recipe's values to override."""
    seed: int | str = 0
    """A whole number, or `fresh` to derive one from the run's id."""
    prompts: str = PROMPTS
    """URIs of the tables of captions."""
    rules: str = "{}"
    """JSON object of curation rules to override."""
    held_out: str = HELD_OUT
    """URI of the evaluation captions, see `sidlsg.storage.uri`."""
    teacher: str = TEACHER
    variant: str = ""
    """Variant of the weights in the teacher's folder, such as `fp16`; empty for the standard ones."""
    teacher_layout: str = ""
    """URI of the small files of a teacher that is one safetensors file; empty for a folder."""
    judge: str = JUDGE
    embeddings_gb: float = 0.0
    """Maximum gigabytes of text embeddings; 0 to encode prompts during training."""
    model_name: str = "sidlsg-tiny"
    version: str = "champion"
    """The version to evaluate: its number, or an alias."""
    tracking_uri: str = ""
    """MLflow's address; empty for a store inside the run folder."""
    settings: tuple[str, ...] = SETTINGS
    """Settings of a sweep, see `sidlsg.stages.sweep.parse_setting`."""
    protocols: tuple[str, ...] = ()
    """Published protocols to score under as well."""
    weights: Path | None = None
    """The weights.toml with the files that these protocols need."""
    teacher_settings: tuple[str, ...] = ()
    """Teacher settings to score as well; empty for the default."""
    keep_images: str = ""
    """URI that receives the generated images; empty to keep none."""
    hourly_price: float = 0.0
    """Hourly price of stages that `prices` does not name."""
    prices: str = "{}"
    """JSON object of hourly prices by stage."""
    gate_rules: Path | None = None
    """TOML file of the gate's rules; None for the recipe's."""
