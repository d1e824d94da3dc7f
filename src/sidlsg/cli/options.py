"""Options that several commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from sidlsg.cli import configuration
from sidlsg.cli.help import OptionGroup
from sidlsg.runtime.errors import InputError, VerdictError
from sidlsg.runtime.overrides import parse_value
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER

if TYPE_CHECKING:  # records take a third of a second
    from sidlsg.storage.records import Verdict

TRACKING = "MLFLOW_TRACKING_URI"
"""The environment variable of --tracking-uri, as of MLflow's own commands."""


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**53:
        raise InputError(f"--seed is {seed}; give a number from 0 to {2**53 - 1}")
    return seed


Recipe = Annotated[str, typer.Option(metavar="NAME", help="Recipe's name; see `sidlsg recipes`.")]
Set = Annotated[
    tuple[str, ...],
    typer.Option("--set", metavar="NAME=VALUE", help="Change a value of the recipe; repeat for more."),
]
Seed = Annotated[int, typer.Option(callback=_seed, help="Seed of all random numbers.")]
BundledDomain = Annotated[str, typer.Option(help="A bundled domain: shapes, or scenes.")]
RunSeed = Annotated[str, typer.Option(metavar="N|fresh", help="Seed of all random numbers.")]
GateRulesFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of rules, as `sidlsg gate-rules` prints.",
    ),
]
TeacherUri = Annotated[
    str,
    typer.Option(metavar="URI", help="Folder of a Stable Diffusion, SANA or FLUX.1; default bundled."),
]
TeacherLayout = Annotated[
    str,
    typer.Option(
        metavar="URI",
        help="For a one-file teacher: folder of its configs.",
    ),
]
Variant = Annotated[str, typer.Option(metavar="NAME", help="Variant of the teacher's weights, such as fp16.")]
Captions = Annotated[
    str,
    typer.Option(metavar="URI", help="Caption files or folders, split by semicolons; by default bundled."),
]
EmbeddingsGb = Annotated[float, typer.Option(min=0, help="Disk limit of embeddings in GB; 0 keeps none.")]
HeldOut = Annotated[str, typer.Option(metavar="URI", help="Evaluation prompts, one per line; never trained on.")]
TrackingUri = Annotated[
    str, typer.Option(metavar="URI", envvar=TRACKING, help="MLflow: an http(s) address, or sqlite:///FILE.")
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Registered model's name.")]
Which = Annotated[str, typer.Argument(metavar="VERSION", help="Number of a version, or an alias such as champion.")]
Address = Annotated[str, typer.Option(metavar="IP", help="Address to listen on; 0.0.0.0 for all.")]
LOCAL = "127.0.0.1"
"""The address that nothing outside this machine reaches."""
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Weights = Annotated[
    Path | None,
    typer.Option(help="TOML of the protocols' files, as Inception's."),
]


@dataclass(frozen=True, kw_only=True)
class InputOptions(OptionGroup):
    """The teacher and what a student is evaluated with."""

    PANEL: ClassVar[str] = "Inputs"
    teacher: TeacherUri = TEACHER
    variant: Variant = ""
    teacher_layout: TeacherLayout = ""
    held_out: HeldOut = HELD_OUT
    judge: Annotated[str, typer.Option(metavar="URI", help="Network that reads attributes; by default bundled.")] = (
        JUDGE
    )


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(OptionGroup):
    """How a student and its teacher are scored, in addition to the recipe's protocols."""

    PANEL: ClassVar[str] = "Scores"
    protocols: Annotated[
        tuple[str, ...],
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Also score under this published protocol; repeat for more.",
        ),
    ] = ()
    weights: Weights = None
    teacher_settings: Annotated[
        tuple[str, ...],
        typer.Option(
            "--teacher-setting",
            metavar="NAME",
            # Imports of the table take seconds; a test compares.
            help="Sample the teacher so instead, such as 'teacher 50 steps, CFG'; repeat for more.",
        ),
    ] = ()
    keep_images: Annotated[str, typer.Option(metavar="URI", help="Folder or s3:// prefix for the images.")] = ""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(OptionGroup):
    """A recipe, and which of its values to override."""

    PANEL: ClassVar[str] = "Recipe"
    recipe: Recipe = "tiny"
    strategy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="none, long, short, lsg, zero_cfg, anti_cfg or custom."),
    ] = None
    kappa: Annotated[float | None, typer.Option(help="Guidance scale κ, for lsg and anti_cfg.")] = None
    scale: Annotated[
        tuple[str, ...],
        typer.Option(
            "--scale",
            metavar="NAME=N",
            help="One guidance scale, as kappa4=3; may repeat.",
        ),
    ] = ()
    set_: Set = ()
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes on CPUs; by default the fastest."),
    ] = None
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per process; by default the fastest.")] = None

    def changes(self) -> str:
        """JSON object of the recipe's values to override."""
        machine = {"processes": self.processes, "threads": self.threads}
        own = {name: value for name, value in machine.items() if value is not None}
        changes = recipe_changes(self.recipe, self.set_, own)
        scales: dict[str, float] = {}
        for text in self.scale:
            name, _, number = text.partition("=")
            try:
                scales[name] = float(number)
            except ValueError as error:
                raise InputError(f"--scale {text!r} is not NAME=NUMBER, such as kappa4=3") from error
        if self.kappa is not None:
            scales["kappa"] = self.kappa
        if self.strategy is not None:
            changes["strategy"] = self.strategy
        if scales or self.strategy is not None:
            changes["scales"] = scales
        return json.dumps(changes)


@dataclass(frozen=True, kw_only=True)
class ServerOptions(OptionGroup):
    """A server of Kubeflow Pipelines."""

    PANEL: ClassVar[str] = "Kubeflow Pipelines"
    host: Annotated[
        str,
        typer.Option(
            metavar="URL", envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow server, as http://ml-pipeline:8888."
        ),
    ] = ""
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Your namespace on a server with several users.")] = ""
    token_env: Annotated[str, typer.Option(metavar="NAME", help="Name of the variable that holds the token.")] = ""
    token_file: Annotated[Path | None, typer.Option(help="File with a token; read again when it changes.")] = None
    service_account: Annotated[
        bool, typer.Option("--service-account", help="Sign in with the token that Kubernetes mounts for the pod.")
    ] = False


def recipe_changes(recipe: str, texts: Iterable[str], own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A recipe's changed values: those of the configuration file, of a command's own options, and of --set."""
    return {**configuration.current.recipes.get(recipe, {}), **(own or {}), **set_values(texts)}


def set_values(texts: Iterable[str]) -> dict[str, Any]:
    """Values of --set by name, each parsed as JSON if it is valid JSON, otherwise as text."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} has no value; give {text}=VALUE")
        values[name] = parse_value(value)
    return values


def require_passed(verdict: Verdict, named: bool = False) -> None:
    """Raise a VerdictError if a rule failed; `named` adds the rules, for a command that has not printed them."""
    if verdict.passed:
        return
    failed = [f"{rule.rule}: {rule.found}" for rule in verdict.rules if not rule.passed]
    rules = f" ({'; '.join(failed)})" if named else ""
    raise VerdictError(f"{len(failed)} of {len(verdict.rules)} gate rules failed{rules}; the champion stays as it was")


def process_rank() -> int:
    """This process's rank under torchrun; 0 otherwise."""
    return int(os.environ.get("RANK", "0"))
