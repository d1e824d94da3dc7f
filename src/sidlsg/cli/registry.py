"""The commands of the registry, from `sidlsg register` and `gate` to `approve`, `promote` and `rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sidlsg.cli.options import GateRulesFile, Recipe, TeacherLayout, TrackingUri, rejection
from sidlsg.runtime.errors import SidlsgError, VerdictError
from sidlsg.runtime.provenance import pipeline_run, say

registry = typer.Typer(no_args_is_help=True, help="Look after the model registry.")


def register(
    student: Annotated[Path, typer.Option(help="Folder of a student.")],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(help="Registered model's name.")],
    output: Annotated[Path | None, typer.Option(help="Also write the ModelVersion record to this folder.")] = None,
    hourly_price: Annotated[
        float, typer.Option(min=0, help="Price of the training's machine an hour, for the cost on the version.")
    ] = 0.0,
) -> None:
    """Register a student in MLflow; the same student again makes no second version."""
    from sidlsg.registry.registration import Circumstances
    from sidlsg.registry.registration import register as stage

    version = stage(student, tracking_uri, name, Circumstances(pipeline_run=pipeline_run(), hourly_price=hourly_price))
    _say(version, output)


def register_teacher(
    teacher: Annotated[
        str, typer.Argument(help="Place of a StableDiffusionPipeline as runs will find it: a folder, or s3://… pinned.")
    ],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(help="Registered model's name for teachers.")],
    teacher_layout: TeacherLayout = "",
) -> None:
    """Announce a teacher in MLflow, as a version of its own that a trigger can take as a reason for a run."""
    from sidlsg.registry.teachers import register_teacher as stage
    from sidlsg.teacher.source import checked_teacher

    folder, sha256 = checked_teacher(teacher, layout=teacher_layout)
    version = stage(folder, teacher, tracking_uri, name, sha256)
    print(f"{version.name} version {version.version}: teacher {version.sha256}")


@registry.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Registered model's name.")],
    version: Annotated[str, typer.Argument(help="A number, or an alias such as champion.")],
    output: Annotated[Path, typer.Option(help="New folder for the MLflow model.")],
    tracking_uri: TrackingUri,
) -> None:
    """Download a version to serve it, after a check that no file of it was changed, its code included."""
    from sidlsg.registry.files import fetch_model
    from sidlsg.registry.versions import find_version

    found = find_version(tracking_uri, name, version)
    fetch_model(found, tracking_uri, output)
    print(f"{name} version {found.version} is in {output} as it was registered: mlflow models serve -m {output}")


@registry.command()
def doctor(
    name: Annotated[str, typer.Argument(help="Registered model's name.")],
    tracking_uri: TrackingUri,
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove what nobody uses, restore deleted runs, end cut records.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="Download each version and check its files' digests.")] = False,
) -> None:
    """Look for what killed calls left behind, versions that are not whole, and names of deleted ones.

    Exit code 1: something is left.
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
    output: Annotated[Path | None, typer.Option(help="Also write the Verdict record to this folder.")] = None,
) -> None:
    """Judge a version by its scorecard. Exit code 3: it did not pass."""
    from sidlsg.cli.tables import print_verdict
    from sidlsg.registry.rule_file import read_gate_rules
    from sidlsg.stages.gate import gate as stage
    from sidlsg.stages.gate import recipe_gate
    from sidlsg.storage.records import ModelVersion

    demanded = recipe_gate(recipe) if rules is None else read_gate_rules(rules)
    verdict = stage(ModelVersion.load(version), scorecard, tracking_uri, demanded)
    print_verdict(verdict)
    if output is not None:
        verdict.save(output)
    if not verdict.passed:
        raise VerdictError(rejection(verdict))


def gate_rules(recipe: Recipe = "tiny") -> None:
    """Print a recipe's rules of the gate as a TOML file to begin with."""
    from sidlsg.registry.rule_file import gate_rules_text
    from sidlsg.stages.gate import recipe_gate

    print(gate_rules_text(recipe_gate(recipe)), end="")


def approve(
    name: Annotated[str, typer.Argument(help="Registered model's name.")],
    which: Annotated[str, typer.Argument(help="Number of a version that lacks an approval, or an alias.")],
    by: Annotated[str, typer.Option(help="Who approves; one of the names in the gate's rule, where it has some.")],
    tracking_uri: TrackingUri,
    output: Annotated[Path | None, typer.Option(help="Also write the Verdict record to this folder.")] = None,
) -> None:
    """Approve a version in a person's name, and judge it again by the same scorecard and rules; no alias moves.

    Exit code 3: it did not pass.
    """
    from sidlsg.cli.tables import print_verdict
    from sidlsg.stages.gate import approve as stage

    verdict = stage(tracking_uri, name, which, by)
    print_verdict(verdict)
    if output is not None:
        verdict.save(output)
    if not verdict.passed:
        raise VerdictError(rejection(verdict))


def promote(
    verdict: Annotated[Path, typer.Option(help="Folder or file of a Verdict record.")],
    tracking_uri: TrackingUri,
    output: Annotated[Path | None, typer.Option(help="Also write the Promotion record to this folder.")] = None,
) -> None:
    """Move the alias `champion` to a version that passed. Exit code 3: it did not pass, and nothing moved."""
    from sidlsg.registry.promotion import promote as stage
    from sidlsg.storage.records import Verdict

    judged = Verdict.load(verdict)
    promotion = stage(judged, tracking_uri)
    _say(promotion, output)
    if not judged.passed:
        raise VerdictError(rejection(judged))


def transfer(
    name: Annotated[str, typer.Argument(help="Registered model's name, where the version is.")],
    which: Annotated[str, typer.Argument(help="The version's number, or an alias such as champion.")],
    source: Annotated[str, typer.Option("--from", help="MLflow where the version is: an address like --tracking-uri.")],
    tracking_uri: TrackingUri,
    to_name: Annotated[
        str, typer.Option(help="The model's name where it goes; by default the same.", show_default=False)
    ] = "",
    rules: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of the gate's rules there; by default those that the version passed.", show_default=False
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the new version's records to this folder.")] = None,
) -> None:
    """Take a version that passed into another registry (from staging to production), judge it there, and promote it.

    Exit code 3: it did not pass, here or there, and the champion stays.
    """
    from sidlsg.cli.tables import print_verdict
    from sidlsg.registry.rule_file import read_gate_rules
    from sidlsg.stages.gate import transfer as stage

    demanded = None if rules is None else read_gate_rules(rules)
    done = stage(source, name, which, tracking_uri, to_name, demanded)
    if output is not None:
        done.version.save(output)
    if done.verdict is not None:
        print_verdict(done.verdict)
        if output is not None:
            done.verdict.save(output)
    _say(done.promotion, output)
    if done.verdict is not None and not done.verdict.passed:
        raise VerdictError(rejection(done.verdict))


def rollback(
    name: Annotated[str, typer.Argument(help="Registered model's name.")],
    tracking_uri: TrackingUri,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail on the versions.")],
    output: Annotated[Path | None, typer.Option(help="Also write the Promotion record to this folder.")] = None,
) -> None:
    """Make the version that was the champion before the champion again; the aliases change places."""
    from sidlsg.registry.promotion import rollback as stage

    _say(stage(tracking_uri, name, reason), output)


def _say(record: Any, output: Path | None) -> None:
    print(record.to_json(), end="")
    if output is not None:
        record.save(output)
