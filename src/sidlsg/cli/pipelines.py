"""The commands `sidlsg run`, `sweep`, `evaluate-version` and `compile`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.installation import placeholders
from sidlsg.cli.options import (
    TRACKING,
    Captions,
    EmbeddingsGb,
    GateRulesFile,
    InputOptions,
    ModelName,
    Recipe,
    RecipeOptions,
    RunSeed,
    ScoreOptions,
    Set,
    TrackingUri,
    Which,
    recipe_changes,
    require_passed,
)
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import remark
from sidlsg.storage.uri import PROMPTS

RunTracking = Annotated[
    str,
    typer.Option(metavar="URI", envvar=TRACKING, help="MLflow; by default in the output's folder."),
]


def sweep(
    inputs: InputOptions,
    scoring: ScoreOptions,
    output: Annotated[Path, typer.Option(help="Folder of the sweep; the same one resumes it.")] = Path("runs/sweep"),
    setting: Annotated[
        list[str],
        typer.Option(
            metavar="SETTING",
            help="A strategy with its scales and values of the recipe, such as none, 'lsg kappa=1.5' or 'lsg "
            "kappa=1.5 steps=4'; repeat for more. By default the paper's strategies, and LSG at κ 1.2 to 4.5.",
        ),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    recipe: Recipe = "tiny",
    set_: Set = (),
    seed: RunSeed = "0",
    prompts: Captions = PROMPTS,
    model_name: Annotated[str, typer.Option(metavar="NAME", help="Registered model's name.")] = "sidlsg-tiny",
    tracking_uri: RunTracking = "",
    embeddings_gb: EmbeddingsGb = 0.0,
) -> None:
    """Distil, score and compare one student per setting.

    No version is judged or promoted. The same command again reuses results, and resumes an interrupted sweep.

    Examples:
      sidlsg sweep
      sidlsg sweep --setting none --setting 'lsg kappa=1.5' --output runs/two
    """
    from sidlsg.cli.catalog import local_sweep
    from sidlsg.cli.tables import print_sweep
    from sidlsg.kubeflow.local.runs import run_sweep
    from sidlsg.stages.run_request import RunRequest
    from sidlsg.stages.sweep import SETTINGS

    request = RunRequest(
        run_dir=output,
        settings=tuple(setting) or SETTINGS,
        recipe=recipe,
        changes=json.dumps(recipe_changes(recipe, set_)),
        seed=seed,
        prompts=prompts,
        model_name=model_name,
        tracking_uri=tracking_uri,
        embeddings_gb=embeddings_gb,
        **vars(inputs),
        **vars(scoring),
    )
    print_sweep(run_sweep(local_sweep(), request))


def evaluate_version(
    name: ModelName,
    which: Which,
    tracking_uri: TrackingUri,
    output: Annotated[Path, typer.Option(help="Folder of the run; the same one again resumes or reuses it.")],
    inputs: InputOptions,
    scoring: ScoreOptions,
    recipe: Recipe = "tiny",
    gate_rules: GateRulesFile = None,
) -> None:
    """Score a registered version again, and judge it; no alias moves.

    Exit code 3: it did not pass the gate.

    Examples:
      sidlsg evaluate-version sidlsg-tiny champion --output runs/again
      sidlsg evaluate-version sidlsg-tiny 3 --protocol NAME --output runs/p
    """
    from sidlsg.cli.catalog import PIPELINES
    from sidlsg.cli.tables import print_evaluation
    from sidlsg.kubeflow.local.runs import run_evaluation
    from sidlsg.stages.run_request import RunRequest

    request = RunRequest(
        run_dir=output,
        model_name=name,
        version=which,
        tracking_uri=tracking_uri,
        recipe=recipe,
        **vars(inputs),
        **vars(scoring),
        gate_rules=gate_rules,
    )
    result = run_evaluation(PIPELINES["evaluate_only"], request)
    print_evaluation(result)
    require_passed(result.verdict)


def compile_(
    pipeline: Annotated[
        str, typer.Option(metavar="NAME", help="distil_and_evaluate, sweep, evaluate_only or curate.")
    ] = "distil_and_evaluate",
    output: Annotated[Path | None, typer.Option(help="The YAML file; by default the pipeline's name.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of each step's image and resources; without it, SIDLSG_IMAGE names the image, and the "
            "cluster's own limits apply.",
        ),
    ] = None,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Write objects for a server that keeps pipelines in Kubernetes.")
    ] = False,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace of those objects.")] = "",
) -> None:
    """Compile a pipeline for Kubeflow Pipelines.

    Examples:
      sidlsg compile --profile infra/profiles/team.toml
      sidlsg compile --pipeline sweep --profile team.toml --output sweep.yaml
    """
    from sidlsg.cli.catalog import compile_pipeline
    from sidlsg.kubeflow.profile_file import read_profile

    if namespace and not manifest:
        raise InputError("--namespace belongs to --manifest; give both")
    if namespace and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise InputError(f"namespace {namespace!r} is invalid; give small letters, digits and hyphens, at most 63")
    output = Path(f"{pipeline}.yaml") if output is None else output
    resources = read_profile(profile) if profile else None
    compile_pipeline(output, pipeline, resources, manifest, namespace)
    print(output)
    if resources is not None and (empty := placeholders(resources)):
        advice = f"no cluster can run this file: the digests of {', '.join(empty)} in {profile} are placeholders"
        remark(f"{advice}; put in a release's with `sidlsg profile-images`")
    if profile is None and not os.environ.get("SIDLSG_IMAGE"):
        advice = "no image was named, so no cluster can run this file: give --profile, or SIDLSG_IMAGE by digest"
        remark(advice)


def run(
    training: RecipeOptions,
    inputs: InputOptions,
    scoring: ScoreOptions,
    output: Annotated[Path, typer.Option(help="Folder; the same again resumes.")] = Path("runs/demo"),
    seed: RunSeed = "0",
    prompts: Captions = PROMPTS,
    model_name: Annotated[str, typer.Option(metavar="NAME", help="Registered model's name.")] = "sidlsg-tiny",
    tracking_uri: RunTracking = "",
    embeddings_gb: EmbeddingsGb = 0.0,
    hourly_price: Annotated[
        float,
        typer.Option(min=0, help="Machine's price an hour, for the costs."),
    ] = 0.0,
    prices: Annotated[str, typer.Option(metavar="JSON", help='By stage, such as {"distil": 12.5}.')] = "{}",
    gate_rules: GateRulesFile = None,
) -> None:
    """Run all stages here, from prompts to a promoted generator.

    Exit code 0: promoted, or already the champion. 3: it did not pass the gate.

    Examples:
      sidlsg run
      sidlsg run --kappa 1.5 --seed 1 --output runs/kappa-1.5
    """
    from sidlsg.cli.catalog import PIPELINES
    from sidlsg.cli.tables import print_summary
    from sidlsg.distil.recipes import recipe_with_changes
    from sidlsg.kubeflow.local.execution import machine_line
    from sidlsg.kubeflow.local.runs import run_local
    from sidlsg.stages.run_request import RunRequest

    values = recipe_with_changes(training.recipe, training.changes())
    request = RunRequest(
        run_dir=output,
        recipe=training.recipe,
        changes=training.changes(),
        seed=seed,
        prompts=prompts,
        model_name=model_name,
        tracking_uri=tracking_uri,
        embeddings_gb=embeddings_gb,
        hourly_price=hourly_price,
        prices=prices,
        **vars(inputs),
        **vars(scoring),
        gate_rules=gate_rules,
    )
    print(machine_line(values))
    result = run_local(PIPELINES["distil_and_evaluate"], request)
    print_summary(result)
    require_passed(result.verdict)
