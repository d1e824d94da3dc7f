"""Options that several commands share, and what their values mean together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

if TYPE_CHECKING:  # records take a third of a second
    from sidlsg.storage.records import Verdict

Recipe = Annotated[str, typer.Option(help="Recipe by name; `sidlsg recipes` lists them.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Replace a value of the recipe; repeat for more.", show_default=False
    ),
]
Kappa = Annotated[
    float | None, typer.Option(help="The strategy's κ where it takes one (lsg, anti_cfg); the recipe's by default.")
]
Strategy = Annotated[
    str | None,
    typer.Option(help="Guidance: none, long, short, lsg, zero_cfg, anti_cfg or custom; the recipe's by default."),
]
Scale = Annotated[
    list[str],
    typer.Option(
        "--scale",
        metavar="NAME=NUMBER",
        help="A guidance scale, such as kappa4=3; repeat for more.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**53 - 1, help="Every random number follows from it.")]
RunSeed = Annotated[
    str, typer.Option(metavar="NUMBER|fresh", help="Every random number follows from it; fresh for another each run.")
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1, help="Training processes on this machine's CPUs; by default what a short measurement finds best."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of each training process; likewise.")]
GateRulesFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of the gate's rules, as `sidlsg gate-rules` prints them; by default the recipe's.",
        show_default=False,
    ),
]
TeacherPlace = Annotated[str, typer.Option(help="Folder of a StableDiffusionPipeline with safetensors weights.")]
TeacherLayout = Annotated[
    str,
    typer.Option(
        help="For a teacher that is one safetensors file: a folder with its pipeline's small files.",
        show_default=False,
    ),
]
HeldOut = Annotated[str, typer.Option(help="Text file of evaluation prompts, one a line, kept out of training.")]
JudgeFile = Annotated[str, typer.Option(help="The judge's safetensors file.")]
TrackingUri = Annotated[str, typer.Option(help="MLflow: an http(s) address, or sqlite:///FILE.")]
Protocols = Annotated[
    list[str],
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="Score under a published protocol as well; repeat for more. `sidlsg protocols` lists them.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="TOML file that names your files; `sidlsg protocols` says which.", show_default=False),
]
TeacherSettings = Annotated[
    list[str],
    typer.Option(
        "--teacher-setting",
        metavar="NAME",
        # The table is beside code that takes seconds to import; a test compares.
        help="Draw the teacher in this setting, not in the default ones; repeat for more. Allowed: "
        "'teacher 50 steps, CFG'; 'teacher 50 steps'; 'teacher 20 steps, CFG'; 'teacher 20 steps'; "
        "'teacher 4 steps, CFG'; 'teacher 4 steps'; 'teacher 1 step, CFG'; 'teacher 1 step'.",
        show_default=False,
    ),
]
KeepImages = Annotated[
    str, typer.Option(help="Folder or s3:// prefix that receives the pictures; without, none is kept.")
]


def recipe_changes(
    strategy: str | None,
    kappa: float | None,
    scales: list[str],
    values: list[str],
    processes: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """The recipe's values that the options replace."""
    machine = {"processes": processes, "threads": threads}
    changes: dict[str, Any] = {name: value for name, value in machine.items() if value is not None}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} has no value; give {text}=VALUE")
        try:
            changes[name] = parse_json(value)
        except ValueError:
            changes[name] = value
    given: dict[str, float] = {}
    for text in scales:
        name, _, number = text.partition("=")
        try:
            given[name] = float(number)
        except ValueError as error:
            raise InputError(f"--scale {text!r} is not NAME=NUMBER, such as kappa4=3") from error
    if kappa is not None:
        given["kappa"] = kappa
    if strategy is not None:
        changes["strategy"] = strategy
        changes["scales"] = given
    elif given:
        changes["scales"] = given
    return changes


def rejection(verdict: Verdict) -> str:
    """What a verdict that did not pass says on the command line."""
    failed = "; ".join(f"{rule.rule}: {rule.found}" for rule in verdict.rules if not rule.passed)
    return f"version {verdict.version} of {verdict.name} did not pass the gate, and champion stays as it was: {failed}"


def process_rank() -> int:
    """Which one of several processes this is, where torchrun started it; 0 otherwise."""
    return int(os.environ.get("RANK", "0"))
