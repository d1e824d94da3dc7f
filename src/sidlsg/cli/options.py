"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sidlsg.runtime.errors import InputError, VerdictError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER

if TYPE_CHECKING:  # records take a third of a second
    from sidlsg.storage.records import Verdict

Recipe = Annotated[str, typer.Option(help="Recipe by name; `sidlsg recipes` lists them.")]
Set = Annotated[
    tuple[str, ...],
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Override a value of the recipe; repeat for more.", show_default=False
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**53 - 1, help="Seed of all random numbers.")]
RunSeed = Annotated[str, typer.Option(metavar="NUMBER|fresh", help="Seed of all random numbers; fresh for a new one.")]
GateRulesFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of the gate's rules, as `sidlsg gate-rules` prints them; by default the recipe's.",
        show_default=False,
    ),
]
TeacherUri = Annotated[str, typer.Option(help="Folder of a StableDiffusionPipeline with safetensors weights.")]
TeacherLayout = Annotated[
    str,
    typer.Option(
        help="For a teacher that is one safetensors file: a folder with its pipeline's small files.",
        show_default=False,
    ),
]
Captions = Annotated[
    str, typer.Option(help="Tables of captions, as for `sidlsg curate --source`, separated by semicolons.")
]
EmbeddingsGb = Annotated[
    float, typer.Option(min=0, help="Disk budget in GB for text embeddings; 0 to encode during training.")
]
HeldOut = Annotated[str, typer.Option(help="Text file of evaluation prompts, one per line, excluded from training.")]
TrackingUri = Annotated[str, typer.Option(help="MLflow: an http(s) address, or sqlite:///FILE.")]
ModelName = Annotated[str, typer.Argument(help="Registered model's name.")]
Which = Annotated[str, typer.Argument(help="Number of a version, or an alias such as champion.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with the paths of the protocols' files; `sidlsg protocols` lists them.", show_default=False
    ),
]


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """The teacher and what a student is evaluated with."""

    teacher: TeacherUri = TEACHER
    teacher_layout: TeacherLayout = ""
    held_out: HeldOut = HELD_OUT
    judge: Annotated[str, typer.Option(help="The judge's safetensors file.")] = JUDGE


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How a student and its teacher are scored, in addition to the recipe's protocols."""

    protocols: Annotated[
        tuple[str, ...],
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Also score under a published protocol; repeat for more. `sidlsg protocols` lists them.",
            show_default=False,
        ),
    ] = ()
    weights: Weights = None
    teacher_settings: Annotated[
        tuple[str, ...],
        typer.Option(
            "--teacher-setting",
            metavar="NAME",
            # Imports of the table take seconds; a test compares.
            help="Sample the teacher in this setting instead of the default ones; repeat for more. Allowed: "
            "'teacher 50 steps, CFG'; 'teacher 50 steps'; 'teacher 20 steps, CFG'; 'teacher 20 steps'; "
            "'teacher 4 steps, CFG'; 'teacher 4 steps'; 'teacher 1 step, CFG'; 'teacher 1 step'.",
            show_default=False,
        ),
    ] = ()
    keep_images: Annotated[
        str, typer.Option(help="Folder or s3:// prefix for the images; by default they are not kept.")
    ] = ""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """A recipe, and which of its values to override."""

    recipe: Recipe = "tiny"
    strategy: Annotated[
        str | None,
        typer.Option(help="Guidance: none, long, short, lsg, zero_cfg, anti_cfg or custom; the recipe's by default."),
    ] = None
    kappa: Annotated[
        float | None, typer.Option(help="κ of the strategies lsg and anti_cfg; the recipe's by default.")
    ] = None
    scale: Annotated[
        tuple[str, ...],
        typer.Option(
            "--scale",
            metavar="NAME=NUMBER",
            help="A guidance scale, such as kappa4=3; repeat for more.",
            show_default=False,
        ),
    ] = ()
    set_: Set = ()
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Training processes on CPUs; by default the fastest number."),
    ] = None
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each training process; by default the fastest number.")
    ] = None

    def changes(self) -> str:
        """JSON object of the recipe's values to override."""
        machine = {"processes": self.processes, "threads": self.threads}
        changes = {name: value for name, value in machine.items() if value is not None} | set_values(self.set_)
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
class ServerOptions:
    """A server of Kubeflow Pipelines."""

    host: Annotated[
        str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow Pipelines, such as http://ml-pipeline:8888.")
    ]
    namespace: Annotated[str, typer.Option(help="Your namespace on a server with several users.")] = ""
    token_env: Annotated[str, typer.Option(metavar="NAME", help="Environment variable that holds a token.")] = ""
    token_file: Annotated[
        Path | None, typer.Option(help="File that holds a token; it is read again when it changes.", show_default=False)
    ] = None
    service_account: Annotated[
        bool, typer.Option("--service-account", help="Sign in with the token that Kubernetes mounts for the pod.")
    ] = False


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that each dataclass parameter becomes one option per field."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = kind
        inner = get_type_hints(kind, include_extras=True)
        parameters += [
            each.replace(annotation=inner[each.name]) for each in inspect.signature(kind).parameters.values()
        ]

    repeated = [parameter.name for parameter in parameters if parameter.default == ()]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        given |= {name: tuple(given[name]) for name in repeated}
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    # Typer takes a list where an option repeats.
    parameters = [
        each.replace(annotation=Annotated[list[str], *each.annotation.__metadata__], default=[])
        if each.name in repeated
        else each
        for each in parameters
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def set_values(texts: Iterable[str]) -> dict[str, Any]:
    """Values of --set by name, each parsed as JSON if it is valid JSON, otherwise as text."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} has no value; give {text}=VALUE")
        try:
            values[name] = parse_json(value)
        except ValueError:
            values[name] = value
    return values


def require_passed(verdict: Verdict) -> None:
    """Raise a VerdictError that names the failed rules, if there are any."""
    if verdict.passed:
        return
    failed = "; ".join(f"{rule.rule}: {rule.found}" for rule in verdict.rules if not rule.passed)
    raise VerdictError(
        f"version {verdict.version} of {verdict.name} did not pass the gate, and champion stays as it was: {failed}"
    )


def process_rank() -> int:
    """This process's rank under torchrun; 0 otherwise."""
    return int(os.environ.get("RANK", "0"))
