"""The commands for the model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidlsg.cli.options import GateRulesFile, ModelName, Recipe, TeacherLayout, TrackingUri, Which, require_passed
from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.provenance import pipeline_run, say

if TYPE_CHECKING:  # records take a third of a second
    from sidlsg.storage.records import Record, Verdict

registry = typer.Typer(no_args_is_help=True, help="Inspect, repair and download from the model registry.")
RecordFolder = Annotated[Path | None, typer.Option(help="Folder that also receives the result, as a record.")]


def register(
    student: Annotated[Path, typer.Option(help="Folder of a student.")],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(help="Registered model's name.")],
    output: RecordFolder = None,
    hourly_price: Annotated[float, typer.Option(min=0, help="Hourly price of training, for the version's cost.")] = 0.0,
) -> None:
    """Register a student in MLflow; registering the same student again creates no second version."""
    from sidlsg.registry.registration import Circumstances
    from sidlsg.registry.registration import register as stage

    version = stage(student, tracking_uri, name, Circumstances(pipeline_run=pipeline_run(), hourly_price=hourly_price))
    _print(version, output)


def register_teacher(
    teacher: Annotated[
        str, typer.Argument(help="URI of a StableDiffusionPipeline for runs: a folder, or s3://… with its digest.")
    ],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(help="Registered model's name for teachers.")],
    teacher_layout: TeacherLayout = "",
) -> None:
    """Register a teacher in MLflow, as a version for which a trigger can start a run."""
    from sidlsg.registry.teachers import register_teacher as stage
    from sidlsg.teacher.source import checked_teacher

    folder, sha256 = checked_teacher(teacher, layout=teacher_layout)
    version = stage(folder, teacher, tracking_uri, name, sha256)
    print(f"{version.name} version {version.version}: teacher {version.sha256}")


@registry.command()
def fetch(
    name: ModelName,
    version: Which,
    output: Annotated[Path, typer.Option(help="New folder for the MLflow model.")],
    tracking_uri: TrackingUri,
) -> None:
    """Download a version for serving, and check that its files, including code, are unchanged."""
    from sidlsg.registry.files import fetch_model
    from sidlsg.registry.versions import find_version

    found = find_version(tracking_uri, name, version)
    fetch_model(found, tracking_uri, output)
    print(f"{name} version {found.version} is in {output} as it was registered: mlflow models serve -m {output}")


@registry.command()
def doctor(
    name: ModelName,
    tracking_uri: TrackingUri,
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove unused parts, restore deleted runs, complete records.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="Download each version and check its files' digests.")] = False,
) -> None:
    """Find leftovers of killed commands, incomplete versions, and aliases of deleted versions.

    Exit code 1: some problems remain.
    """
    from sidlsg.registry.doctor import examine, mend

    left = 0
    for finding in examine(tracking_uri, name, files):
        advice = f"{finding.advice}{'' if finding.mend is None else '; --fix mends it'}"
        if fix and finding.mend is not None:
            try:
                mend(tracking_uri, finding)
            except SidlsgError as error:
                advice = str(error)
            else:
                say(f"mended: {finding.what}")
                continue
        left += 1
        say(f"{finding.what}\n  {advice}")
    if left:
        raise typer.Exit(1)
    print(f"{name} is in order")


def gate(
    version: Annotated[Path, typer.Option(help="Folder or file of a ModelVersion record.")],
    scorecard: Annotated[Path, typer.Option(help="Folder of a scorecard.")],
    tracking_uri: TrackingUri,
    recipe: Recipe = "tiny",
    rules: GateRulesFile = None,
    output: RecordFolder = None,
) -> None:
    """Judge a version by its scorecard. Exit code 3: it did not pass."""
    from sidlsg.registry.gate_rule_file import read_gate_rules
    from sidlsg.stages.gate import gate as stage
    from sidlsg.stages.gate_rules import gate_rules as recipe_rules
    from sidlsg.storage.records import ModelVersion

    demanded = recipe_rules(recipe) if rules is None else read_gate_rules(rules)
    _conclude(stage(ModelVersion.load(version), scorecard, tracking_uri, demanded), output)


def gate_rules(recipe: Recipe = "tiny") -> None:
    """Print a recipe's gate rules as a TOML file."""
    from sidlsg.registry.gate_rule_file import gate_rules_text
    from sidlsg.stages.gate_rules import gate_rules as recipe_rules

    print(gate_rules_text(recipe_rules(recipe)), end="")


def approve(
    name: ModelName,
    which: Annotated[str, typer.Argument(help="Number or alias of a version that awaits an approval.")],
    by: Annotated[str, typer.Option(help="Name of the approver; one of those in the gate's rule, if it lists any.")],
    tracking_uri: TrackingUri,
    output: RecordFolder = None,
) -> None:
    """Approve a version in a person's name, and judge it again by the same scorecard and rules; no alias moves.

    Exit code 3: it did not pass.
    """
    from sidlsg.stages.gate import approve as stage

    _conclude(stage(tracking_uri, name, which, by), output)


def promote(
    verdict: Annotated[Path, typer.Option(help="Folder or file of a Verdict record.")],
    tracking_uri: TrackingUri,
    output: RecordFolder = None,
) -> None:
    """Move the alias `champion` to a version that passed. Exit code 3: it did not pass, and the alias did not move."""
    from sidlsg.registry.promotion import promote as stage
    from sidlsg.storage.records import Verdict

    judged = Verdict.load(verdict)
    promotion = stage(judged, tracking_uri)
    _print(promotion, output)
    require_passed(judged)


def transfer(
    name: ModelName,
    which: Which,
    source: Annotated[str, typer.Option("--from", help="The version's MLflow: an address like --tracking-uri.")],
    tracking_uri: TrackingUri,
    to_name: Annotated[str, typer.Option(help="The model's new name; by default the same.", show_default=False)] = "",
    rules: Annotated[
        Path | None,
        typer.Option(help="TOML file of gate rules; by default those that the version passed.", show_default=False),
    ] = None,
    output: RecordFolder = None,
) -> None:
    """Copy a version that passed to another registry, such as production, judge it there, and promote it.

    Exit code 3: it did not pass in one of the registries, and the champion is unchanged.
    """
    from sidlsg.cli.tables import print_verdict
    from sidlsg.registry.gate_rule_file import read_gate_rules
    from sidlsg.stages.gate import transfer as stage

    demanded = None if rules is None else read_gate_rules(rules)
    done = stage(source, name, which, tracking_uri, to_name, demanded)
    if output is not None:
        done.version.save(output)
    if done.verdict is not None:
        print_verdict(done.verdict)
        if output is not None:
            done.verdict.save(output)
    _print(done.promotion, output)
    if done.verdict is not None:
        require_passed(done.verdict)


def rollback(
    name: ModelName,
    tracking_uri: TrackingUri,
    reason: Annotated[str, typer.Option(help="Reason, for the audit trail on the versions.")],
    output: RecordFolder = None,
) -> None:
    """Make the previous champion the champion again, by swapping the aliases."""
    from sidlsg.registry.promotion import rollback as stage

    _print(stage(tracking_uri, name, reason), output)


def _conclude(verdict: Verdict, output: Path | None) -> None:
    from sidlsg.cli.tables import print_verdict

    print_verdict(verdict)
    if output is not None:
        verdict.save(output)
    require_passed(verdict)


def _print(record: Record, output: Path | None) -> None:
    print(record.to_json(), end="")
    if output is not None:
        record.save(output)
